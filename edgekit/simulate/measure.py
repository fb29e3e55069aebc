"""Speed, memory and size of a bundle's artifact on this host."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from pathlib import Path

from edgekit.bundle.load import Bundle
from edgekit.errors import EdgekitError
from edgekit.progress import Progress
from edgekit.routing.decode_loop import StepModel
from edgekit.simulate import open_simulator

PROMPT_TOKENS, DECODE_STEPS = 128, 64


def measure(
    bundle: Bundle,
    repeats: int = 5,
    on_progress: Progress | None = None,
    prompt_tokens: int | None = None,
) -> dict[str, float]:
    """Medians over ``repeats`` of one prefill and up to 64 decode steps after it.

    ``prompt_tokens`` None means 128, or half the context if that is less. Returns prefill_tokens_per_s,
    decode_tokens_per_s, load_s, peak_rss_mb (of this process from loading on) and rss_before_mb (10^6 bytes),
    artifact_mb (10^6 bytes), context_length, prompt_tokens, and each rate's spread (max - min over median).
    Raises :class:`EdgekitError` if the prompt leaves no room to decode.
    """
    facts = bundle.manifest.model
    tokens, steps = sizes(facts.context_length, prompt_tokens)
    before = forget_peak_rss()
    begin = time.perf_counter()
    model = open_simulator(bundle.manifest.target, bundle.artifact, facts.context_length, facts.prefill_chunk)
    load_s = time.perf_counter() - begin
    prompt = [index % facts.vocab_size for index in range(tokens)]
    time_once(model, prompt, steps)
    prefill, decode = [], []
    for repeat in range(repeats):
        prefill_s, decode_s = time_once(model, prompt, steps)
        prefill.append(tokens / prefill_s)
        decode.append(steps / decode_s)
        if on_progress is not None:
            on_progress(repeat + 1, repeats)
    prefix = bundle.manifest.artifact
    size = sum(entry.size for name, entry in bundle.manifest.files.items() if name.startswith(prefix))
    return {
        "prefill_tokens_per_s": statistics.median(prefill),
        "decode_tokens_per_s": statistics.median(decode),
        "load_s": load_s,
        "peak_rss_mb": peak_rss() / 1e6,
        "rss_before_mb": before / 1e6,
        "artifact_mb": size / 1e6,
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


def time_once(model: StepModel, prompt: list[int], steps: int) -> tuple[float, float]:
    """Seconds of one prefill, and of ``steps`` decode steps after it."""
    model.reset()
    begin = time.perf_counter()
    model.prefill(prompt)
    middle = time.perf_counter()
    for index in range(steps):
        model.decode(prompt[index % len(prompt)])
    return middle - begin, time.perf_counter() - middle


def forget_peak_rss() -> int:
    """Make :func:`peak_rss` start from now where the system can (Linux). Returns the resident bytes now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak_rss()
    return _status("VmRSS")


def peak_rss() -> int:
    """Most resident bytes of this process, since the start or the last :func:`forget_peak_rss`."""
    try:
        return _status("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))
