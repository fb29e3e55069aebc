"""llama.cpp over a GGUF, through its C interface. Usage: llama_cpp_gguf.py FILE THREADS CONTEXT."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np
from protocol import serve


class LlamaCpp:
    """llama_decode and an argmax: none of the Python wrapper's copying. Defaults but for threads and context."""

    def __init__(self, file: Path, threads: int, context: int) -> None:
        self.llama = llama_cpp.Llama(
            str(file), n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False
        )
        self.vocabulary = self.llama.n_vocab()
        self.context = self.llama.ctx
        self.runtime = f"llama.cpp ({llama_cpp.__version__}), {threads} threads"

    def prefill(self, prompt: Sequence[int], may_end: bool) -> int:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        return self._run(prompt)

    def decode(self, token: int) -> int:
        return self._run([token])

    def _run(self, tokens: Sequence[int]) -> int:
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(tokens))):
            raise RuntimeError("llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(self.vocabulary,)).argmax())


if __name__ == "__main__":
    file, threads, context = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    serve([file], lambda: LlamaCpp(file, threads, context))
