"""Run an exported ONNX policy in ONNX Runtime, the library the phone ships."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import BackendMissing, BundleError
from edgekit.routing.decode_loop import Logits
from edgekit.simulate import SimulatedModel

THREADS = 1
"""Small policies decode fastest on one thread; more only wait for each other."""


def missing() -> str | None:
    """None if ONNX Runtime is here, else what to install."""
    absent = importlib.util.find_spec("onnxruntime") is None
    return "onnxruntime not installed: pip install 'edgekit[onnx]'" if absent else None


def open_artifact(path: Path, context_length: int, prefill_chunk: int) -> SimulatedModel:  # noqa: ARG001
    """Load model.onnx at ``path``. ``prefill_chunk`` is unused: a prompt goes in whole.

    Raises BackendMissing without ONNX Runtime, BundleError if the file cannot be loaded.
    """
    absent = missing()
    if absent:
        raise BackendMissing(f"cannot run {path.name}: {absent}.")
    return OnnxRuntimeModel(path, context_length)


class OnnxRuntimeModel:
    """A :class:`StepModel` over one ONNX Runtime session; the cache goes from output to input uncopied."""

    def __init__(self, path: Path, context_length: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no common base class for its errors
            reason = " ".join(str(error).split())[:200]
            raise BundleError(f"cannot load {path}: {reason}. The file is damaged or too new. Export again.") from None
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._pasts = [item for item in self._session.get_inputs() if item.name.startswith("past_")]
        self.context_length = context_length
        self.runtime = f"onnxruntime {onnxruntime.__version__} (CPUExecutionProvider)"
        self._cache: list[Any] = [self._value(np.zeros(item.shape, np.float32)) for item in self._pasts]
        self.reset()

    def reset(self) -> None:
        """Back to position 0. Old cache entries may stay: attention masks every slot beyond the position."""
        self._position = 0

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """The whole prompt in one call."""
        return self._run(token_ids)

    def decode(self, token_id: int) -> Logits:
        """One token."""
        return self._run([token_id])

    def _run(self, token_ids: Sequence[int]) -> Logits:
        feeds = {
            "input_ids": self._value(np.array([list(token_ids)], np.int64)),
            "position": self._value(np.array([self._position], np.int64)),
            **{item.name: cache for item, cache in zip(self._pasts, self._cache, strict=True)},
        }
        logits, *self._cache = self._session.run_with_ort_values(self._outputs, feeds)
        self._position += len(token_ids)
        return np.asarray(logits.numpy()[0], np.float32)
