"""What the process of a simulator offers: artifacts opened, prompts and tokens taken, steps timed where they run.

Imports little, for it is started with every bundle: no pydantic, no torch.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgekit.routing.step_model import Logits
from edgekit.simulate import SimulatedModel, Simulator
from edgekit.simulate.turns import forget_peak_rss, peak_rss, take_turns


class Service:
    """Models by number. Arguments and results are JSON values, or the bytes of float32 logits."""

    def __init__(self) -> None:
        self._models: list[SimulatedModel] = []

    def open(self, simulator: str, path: str, context_length: int, prefill_chunk: int) -> dict[str, Any]:
        """Load an artifact with the module ``simulator``; what runs it, its cache, and what loading took (s, bytes)."""
        before = forget_peak_rss()
        begin = time.perf_counter()
        model = cast(Simulator, import_module(simulator)).open_artifact(Path(path), context_length, prefill_chunk)
        seconds = time.perf_counter() - begin
        self._models.append(model)
        number = len(self._models) - 1
        facts = {"number": number, "runtime": model.runtime, "cache": model.cache}
        return facts | {"load_s": seconds, "rss_before": before}

    def prefill(self, number: int, token_ids: list[int], fresh: bool) -> memoryview:
        """Logits after a prompt; ``fresh``: from an empty cache."""
        model = self._models[number]
        if fresh:
            model.reset()
        return _bytes(model.prefill(token_ids))

    def decode(self, number: int, token_id: int) -> memoryview:
        """Logits after one more token."""
        return _bytes(self._models[number].decode(token_id))

    def take_turns(self, numbers: list[int], prompt: list[int], steps: int) -> dict[str, list[float]]:
        """The models' steps timed here, where no message between processes is timed with them."""
        return asdict(take_turns([self._models[number] for number in numbers], prompt, steps))

    def peak_rss(self) -> int:
        """Most resident bytes of this process since the last artifact began to be loaded."""
        return peak_rss()


def _bytes(logits: Logits) -> memoryview:
    return np.ascontiguousarray(logits, np.float32).reshape(-1).data.cast("B")
