"""What ExecuTorch's own export_llm made, in its Python runtime. Usage: executorch_llm.py FILE THREADS CONTEXT."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from protocol import serve


class ExecutorchLLM:
    """The method ``forward`` (tokens (1, T), position (1,)) -> logits; the KV cache is inside the program."""

    def __init__(self, file: Path, threads: int) -> None:
        from executorch.runtime import Runtime, Verification  # noqa: I001  first: kernels register in it
        import executorch.kernels.quantized  # noqa: F401  the quantized embedding
        from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  the attention operators
        from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool

        _unsafe_reset_threadpool(threads)
        self.program = Runtime.get().load_program(file, verification=Verification.InternalConsistency)
        self.method = self.program.load_method("forward")
        version = importlib.metadata.version("executorch")
        self.runtime = f"executorch {version} export_llm (8da4w, XNNPACK), {threads} threads"

    def prefill(self, prompt: Sequence[int], may_end: bool) -> int:
        self.position = 0
        return self._run(prompt)

    def decode(self, token: int) -> int:
        return self._run([token])

    def _run(self, tokens: Sequence[int]) -> int:
        logits = self.method.execute((torch.tensor([list(tokens)]), torch.tensor([self.position])))[0]
        self.position += len(tokens)
        return int(logits.reshape(-1, logits.shape[-1])[-1].argmax())


if __name__ == "__main__":
    file = Path(sys.argv[1])
    serve([file], lambda: ExecutorchLLM(file, int(sys.argv[2])))
