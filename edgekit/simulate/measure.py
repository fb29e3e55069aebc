"""Speed, memory and size of a bundle's artifact on this host."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable

from edgekit.bundle.load import Bundle
from edgekit.simulate import open_simulator


def measure(
    bundle: Bundle, repeats: int = 5, on_progress: Callable[[int, int], None] | None = None
) -> dict[str, float]:
    """Medians over ``repeats`` of a half-context prefill and as many decode steps as then fit (at most 64).

    Returns prefill_tokens_per_s, decode_tokens_per_s, load_s, peak_rss_mb (of this whole process),
    artifact_mb (10^6 bytes), context_length, and each rate's spread (max - min over median).
    """
    facts = bundle.manifest.model
    begin = time.perf_counter()
    model = open_simulator(bundle.manifest.target, bundle.artifact, facts.context_length, facts.prefill_chunk)
    load_s = time.perf_counter() - begin
    prompt = [index % facts.vocab_size for index in range(facts.context_length // 2)]
    steps = min(64, facts.context_length - len(prompt) - 1)
    model.reset()
    model.prefill(prompt)
    prefill, decode = [], []
    for repeat in range(repeats):
        model.reset()
        begin = time.perf_counter()
        model.prefill(prompt)
        prefill.append(len(prompt) / (time.perf_counter() - begin))
        begin = time.perf_counter()
        for index in range(steps):
            model.decode(prompt[index % len(prompt)])
        decode.append(steps / (time.perf_counter() - begin))
        if on_progress is not None:
            on_progress(repeat + 1, repeats)
    prefix = bundle.manifest.artifact
    size = sum(entry.size for name, entry in bundle.manifest.files.items() if name.startswith(prefix))
    rss_unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, KiB here
    return {
        "prefill_tokens_per_s": statistics.median(prefill),
        "decode_tokens_per_s": statistics.median(decode),
        "load_s": load_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / rss_unit,
        "artifact_mb": size / 1e6,
        "context_length": facts.context_length,
        "prefill_spread": (max(prefill) - min(prefill)) / statistics.median(prefill),
        "decode_spread": (max(decode) - min(decode)) / statistics.median(decode),
        "repeats": repeats,
    }
