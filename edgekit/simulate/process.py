"""Artifacts run in a process of their own: a foreign file cannot hang, exhaust or end the program that opened it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import BackendMissing, BundleError, ErrorKind
from edgekit.isolation.worker import Worker
from edgekit.recipes.targets import get_target
from edgekit.routing.step_model import Logits
from edgekit.simulate.turns import Turns

# Bounds that no whole artifact meets on the slowest host, not estimates: a runtime may keep its weights as wide floats
# beside the file's and its own copy, and its threads may wait for each other. Seconds are of processor time.
MEMORY, MEMORY_PER_BYTE = 4 * 2**30, 16
OPEN_S, BYTES_PER_S = 300.0, 5e6
STEP_S, BYTES_READ_PER_S = 60.0, 1e8


class SimulatorProcess:
    """A process that runs artifacts of at most ``largest`` bytes each."""

    def __init__(self, subject: Path, largest: int) -> None:
        self.worker = Worker("edgekit.simulate.service", f"running {subject}", MEMORY + MEMORY_PER_BYTE * largest)

    def open(
        self, target: str, path: Path, context_length: int, prefill_chunk: int, vocab_size: int | None = None
    ) -> ProcessModel:
        """Load an artifact. Raises :class:`BackendMissing` if this host lacks its runtime, BundleError if it is bad."""
        made_for = get_target(target)
        lacking = made_for.missing_to_run()
        if lacking is not None:
            raise BackendMissing(f"cannot run {path}: {lacking}.")
        size = artifact_bytes(path)
        arguments = (made_for.simulator, str(path), context_length, prefill_chunk)
        opened = self.worker.call("open", *arguments, seconds=OPEN_S + size / BYTES_PER_S)
        return ProcessModel(self, opened, context_length, vocab_size, STEP_S, size / BYTES_READ_PER_S)

    def take_turns(self, copies: Sequence[ProcessModel], prompt: Sequence[int], steps: int) -> Turns:
        """See :func:`edgekit.simulate.turns.take_turns`: timed in the process, so without the way there and back."""
        numbers = [model.number for model in copies]
        seconds = sum(model.seconds(len(prompt)) for model in copies) + steps * copies[0].seconds(1)
        return Turns(**self.worker.call("take_turns", numbers, list(prompt), steps, seconds=seconds))

    def peak_rss(self) -> int:
        """Most resident bytes of the process since its last artifact began to be loaded."""
        return int(self.worker.call("peak_rss", seconds=STEP_S))


class ProcessModel:
    """A :class:`~edgekit.simulate.SimulatedModel` in a :class:`SimulatorProcess`."""

    def __init__(
        self,
        process: SimulatorProcess,
        opened: dict[str, Any],
        context_length: int,
        vocab_size: int | None,
        step_s: float,
        token_s: float,
    ) -> None:
        self.process, self.number = process, int(opened["number"])
        self.runtime, self.cache = opened["runtime"], opened["cache"]
        self.load_s, self.rss_before = opened["load_s"], opened["rss_before"]
        self.context_length, self.vocab_size = context_length, vocab_size
        self._step_s, self._token_s = step_s, token_s
        self._fresh = True

    def seconds(self, tokens: int) -> float:
        """Processor time that ``tokens`` may take at most."""
        return self._step_s + tokens * self._token_s

    def reset(self) -> None:
        """Back to position 0, with the next prompt."""
        self._fresh = True

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """The whole prompt."""
        fresh, self._fresh = self._fresh, False
        return self._call("prefill", list(token_ids), fresh, tokens=len(token_ids))

    def decode(self, token_id: int) -> Logits:
        """One token."""
        return self._call("decode", token_id, tokens=1)

    def _call(self, method: str, *arguments: Any, tokens: int) -> Logits:
        reply = self.process.worker.call(method, self.number, *arguments, seconds=self.seconds(tokens))
        logits: Logits = np.frombuffer(reply, np.float32)
        if self.vocab_size is not None and logits.size != self.vocab_size:
            raise BundleError(
                f"{self.process.worker.subject} failed: it gives {logits.size} logits, the manifest says "
                f"{self.vocab_size} tokens. Export the bundle again.",
                ErrorKind.BAD_LOGITS,
            )
        return logits


def artifact_bytes(path: Path) -> int:
    """Size of an artifact: a folder's files, or a file's and those beside it whose names go on from its own."""
    files = path.rglob("*") if path.is_dir() else path.parent.glob(path.name + "*")
    return sum(file.stat().st_size for file in files if file.is_file())
