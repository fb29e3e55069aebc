"""Run an exported ExecuTorch policy in the ExecuTorch runtime, the library the phone ships."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgekit.errors import BundleError
from edgekit.routing.step_model import Logits
from edgekit.simulate import SimulatedModel
from edgekit.simulate.pte_check import check_program


def open_artifact(path: Path, context_length: int, prefill_chunk: int) -> SimulatedModel:  # noqa: ARG001
    """Load model.pte at ``path``. ``prefill_chunk`` is unused: a prompt goes in whole.

    Raises BundleError if the file cannot be loaded.
    """
    check_program(path)
    return ExecutorchModel(path, context_length)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what C++ writes to standard error (CPU probing); a failure comes back as an exception all the same."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class ExecutorchModel:
    """A :class:`StepModel` over the method ``forward``, whose KV cache lives inside the program."""

    def __init__(self, path: Path, context_length: int) -> None:
        try:
            with _quiet_stderr():
                from executorch.runtime import Runtime, Verification  # noqa: I001  first: kernels register in it
                import executorch.kernels.quantized  # noqa: F401  embeddings
                from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  attention and cache

                self._program = Runtime.get().load_program(path, verification=Verification.InternalConsistency)
                method = self._program.load_method("forward")
        except Exception as error:  # the runtime raises plain RuntimeErrors and OSErrors
            reason = " ".join(str(error).split())[:200]
            raise BundleError(f"cannot load {path}: {reason}. The file is damaged or too new. Export again.") from None
        if method is None:
            raise BundleError(f"cannot load {path}: no method forward. It is not an edgekit export. Export again.")
        self._method = method
        self.context_length, self.cache = context_length, "float"
        self.runtime = f"executorch {importlib.metadata.version('executorch')} (XNNPACK)"
        self.reset()

    def reset(self) -> None:
        """Back to position 0. Old cache entries may stay: attention masks every slot beyond the position."""
        self._position = 0

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """The whole prompt in one call, two if it fills the context: one call takes a token less."""
        longest = self.context_length - 1
        if len(token_ids) > longest:
            self._run(token_ids[:longest])
            token_ids = token_ids[longest:]
        return self._run(token_ids)

    def decode(self, token_id: int) -> Logits:
        """One token."""
        return self._run([token_id])

    def _run(self, token_ids: Sequence[int]) -> Logits:
        import torch  # the runtime's Python interface takes torch tensors

        inputs = (torch.tensor([list(token_ids)]), torch.tensor([self._position]))
        logits = self._method.execute(inputs)[0]
        self._position += len(token_ids)
        return np.array(logits[0].numpy(), np.float32)
