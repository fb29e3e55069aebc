"""Speed, memory and size of a bundle's artifact on this host."""

from __future__ import annotations

import statistics

from edgekit.bundle.load import Bundle
from edgekit.errors import EdgekitError
from edgekit.progress import Progress
from edgekit.simulate import open_bundled

PROMPT_TOKENS, DECODE_STEPS = 128, 64


def measure(
    bundle: Bundle,
    repeats: int = 5,
    on_progress: Progress | None = None,
    prompt_tokens: int | None = None,
) -> dict[str, float]:
    """Medians over ``repeats`` of one prefill and up to 64 decode steps after it.

    ``prompt_tokens`` None means 128, or half the context if that is less. Returns prefill_tokens_per_s,
    decode_tokens_per_s, load_s, peak_rss_mb (of the artifact's process from loading on) and rss_before_mb (10^6 bytes),
    artifact_mb (10^6 bytes), context_length, prompt_tokens, and each rate's spread (max - min over median).
    Raises :class:`EdgekitError` if the prompt leaves no room to decode.
    """
    facts = bundle.manifest.model
    tokens, steps = sizes(facts.context_length, prompt_tokens)
    model = open_bundled(bundle)
    prompt = [index % facts.vocab_size for index in range(tokens)]
    model.process.take_turns([model], prompt, steps)
    prefill, decode = [], []
    for repeat in range(repeats):
        turns = model.process.take_turns([model], prompt, steps)
        prefill.append(tokens / sum(turns.prefill))
        decode.append(steps / sum(turns.seconds))
        if on_progress is not None:
            on_progress(repeat + 1, repeats)
    return {
        "prefill_tokens_per_s": statistics.median(prefill),
        "decode_tokens_per_s": statistics.median(decode),
        "load_s": model.load_s,
        "peak_rss_mb": model.process.peak_rss() / 1e6,
        "rss_before_mb": model.rss_before / 1e6,
        "artifact_mb": bundle.manifest.artifact_bytes / 1e6,
        "context_length": facts.context_length,
        "prompt_tokens": tokens,
        "prefill_spread": (max(prefill) - min(prefill)) / statistics.median(prefill),
        "decode_spread": (max(decode) - min(decode)) / statistics.median(decode),
        "repeats": repeats,
    }


def sizes(context_length: int, prompt_tokens: int | None = None) -> tuple[int, int]:
    """(prompt tokens, decode steps) to measure with. Raises :class:`EdgekitError` if they do not fit the context."""
    tokens = min(PROMPT_TOKENS, context_length // 2) if prompt_tokens is None else prompt_tokens
    steps = min(DECODE_STEPS, context_length - tokens - 1)
    if tokens < 1 or steps < 1:
        raise EdgekitError(
            f"prompt does not fit: {tokens} tokens. The artifact's context holds {context_length}, and decoding "
            "needs room too. Choose fewer."
        )
    return tokens, steps
