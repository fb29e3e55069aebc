"""Run an exported ONNX policy in ONNX Runtime, the library the phone ships."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import BundleError
from edgekit.routing.step_model import Logits
from edgekit.simulate import SimulatedModel
from edgekit.simulate.onnx_check import check_model

THREADED_FROM = 16_000_000
"""Bytes of a model from which on a second thread pays; see :func:`threads_for`."""


CACHES = {"tensor(float)": np.float32, "tensor(int8)": np.int8}
"""What the fused layout's caches may hold, by ONNX Runtime's name for it."""
INTEGER_CALL = 128
"""Tokens of a prompt in a call over a cache of integers: many at once take its attention longer than few at a time."""


def open_artifact(path: Path, context_length: int, prefill_chunk: int) -> SimulatedModel:  # noqa: ARG001
    """Load model.onnx at ``path``, of either layout. ``prefill_chunk`` is unused: a prompt goes in whole.

    Raises BundleError if the file cannot be loaded.
    """
    check_model(path)
    session = _open_session(path)
    names = {item.name for item in session.get_inputs()}
    return StandardModel(session, context_length) if "attention_mask" in names else FusedModel(session, context_length)


def threads_for(size: int) -> int:
    """Threads for a model of ``size`` bytes.

    A small policy's operators are so short that threads only wait for each other; a real model's take tens of
    microseconds, and two cores read its weights faster than one. Threads spin between operators, ONNX Runtime's
    default: waking a sleeping thread two hundred times a token would cost more, unless other work wants the cores.
    """
    return min(2, os.cpu_count() or 1) if size >= THREADED_FROM else 1


def _open_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    size = sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))
    options.intra_op_num_threads = threads_for(size)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common base class for its errors
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"cannot load {path}: {reason}. The file is damaged or too new. Export again.") from None


def _version() -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__} (CPUExecutionProvider)"


def _cache(pasts: Sequence[Any]) -> str:
    """What the caches ``pasts`` hold: "tensor(int8)" is a recipe's int8."""
    return " and ".join(sorted({item.type.removeprefix("tensor(").removesuffix(")") for item in pasts}))


class FusedModel:
    """A :class:`StepModel` over the fused layout: every buffer is bound once, the cache is written in place."""

    def __init__(self, session: Any, context_length: int) -> None:
        from onnxruntime import OrtValue

        self._session, self._binding = session, session.io_binding()
        self.context_length = context_length
        self.runtime = _version()
        self._token = np.zeros((1, 1), np.int64)
        self._start = np.zeros(1, np.int64)
        logits, *_ = session.get_outputs()
        self._logits = np.zeros(logits.shape, np.float32)
        self._bind_input("position", self._start)
        self._binding.bind_output("logits", "cpu", 0, np.float32, self._logits.shape, self._logits.ctypes.data)
        # Kept here: before ONNX Runtime 1.29 an OrtValue is a view of the array's memory, and a binding no owner of it.
        pasts = [item for item in session.get_inputs() if item.name.startswith("past_")]
        self.cache = _cache(pasts)
        self._call = INTEGER_CALL if "int8" in self.cache else context_length
        self._caches = {p.name: OrtValue.ortvalue_from_numpy(np.zeros(p.shape, CACHES[p.type])) for p in pasts}
        for name, buffer in self._caches.items():
            self._binding.bind_ortvalue_input(name, buffer)
            self._binding.bind_ortvalue_output(name.replace("past_", "present_"), buffer)
        self.reset()

    def reset(self) -> None:
        """Back to position 0. Old cache entries may stay: attention ends at the position."""
        self._position = 0

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """The whole prompt in one call, or over a cache of integers in several."""
        for begin in range(0, len(token_ids) - self._call, self._call):
            self._run(np.array([token_ids[begin : begin + self._call]], np.int64))
        rest = (len(token_ids) - 1) // self._call * self._call
        return self._run(np.array([list(token_ids[rest:])], np.int64))

    def decode(self, token_id: int) -> Logits:
        """One token."""
        self._token[0, 0] = token_id
        return self._run(self._token)

    def _run(self, tokens: NDArray[np.int64]) -> Logits:
        self._start[0] = self._position
        self._bind_input("input_ids", tokens)
        self._session.run_with_iobinding(self._binding)
        self._position += tokens.shape[1]
        return self._logits[0].copy()

    def _bind_input(self, name: str, array: NDArray[np.int64]) -> None:
        """Let the session read ``array``'s own memory."""
        self._binding.bind_input(name, "cpu", 0, np.int64, array.shape, array.ctypes.data)


class StandardModel:
    """A :class:`StepModel` over the standard layout: the cache goes from output to input, longer each time."""

    def __init__(self, session: Any, context_length: int) -> None:
        self._session = session
        self.context_length = context_length
        self.runtime = _version()
        self._outputs = [output.name for output in session.get_outputs()]
        self._pasts = [item for item in session.get_inputs() if item.name.startswith("past_")]
        self.cache = _cache(self._pasts)
        self.reset()

    def reset(self) -> None:
        """Back to position 0, with empty caches."""
        from onnxruntime import OrtValue

        self._position = 0
        empty = [np.zeros((1, item.shape[1], 0, item.shape[3]), np.float32) for item in self._pasts]
        self._cache: list[Any] = [OrtValue.ortvalue_from_numpy(array) for array in empty]

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """The whole prompt in one call."""
        from onnxruntime import OrtValue

        end = self._position + len(token_ids)
        arrays = {
            "input_ids": np.array([list(token_ids)], np.int64),
            "attention_mask": np.ones((1, end), np.int64),
            "position_ids": np.arange(self._position, end, dtype=np.int64)[None],
        }
        feeds = {name: OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
        feeds |= {item.name: cache for item, cache in zip(self._pasts, self._cache, strict=True)}
        logits, *self._cache = self._session.run_with_ort_values(self._outputs, feeds)
        self._position = end
        return np.asarray(logits.numpy()[0, -1], np.float32)

    def decode(self, token_id: int) -> Logits:
        """One token."""
        return self.prefill([token_id])
