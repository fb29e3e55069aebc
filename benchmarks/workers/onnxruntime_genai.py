"""ONNX Runtime GenAI over a folder that its model builder made. Usage: onnxruntime_genai.py FOLDER THREADS CONTEXT."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

# The script's own folder holds a file named like the package: leave it out of the search for packages.
HERE = sys.path.pop(0)
import onnxruntime_genai as genai  # noqa: E402

sys.path.insert(0, HERE)
from protocol import serve  # noqa: E402


class GenAI:
    """Its own generation loop, greedy, with its defaults but for the number of threads and the context."""

    def __init__(self, folder: Path, threads: int, context: int) -> None:
        config = genai.Config(str(folder))
        options = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self.model = genai.Model(config)
        self.context = context
        self.runtime = f"onnxruntime-genai {genai.__version__}, {threads} threads"

    def prefill(self, prompt: Sequence[int], may_end: bool) -> int:
        params = genai.GeneratorParams(self.model)
        # min_length keeps an end token from stopping a timed run early
        least = 0 if may_end else self.context
        params.set_search_options(do_sample=False, max_length=self.context, min_length=least)
        self.generator = genai.Generator(self.model, params)
        self.generator.append_tokens(list(prompt))  # runs the prompt
        return self._sample()

    def decode(self, token: int) -> int:  # it feeds back its own token
        return self._sample()

    def _sample(self) -> int:
        self.generator.generate_next_token()
        return int(self.generator.get_next_tokens()[0])


if __name__ == "__main__":
    folder, threads, context = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    serve(folder.glob("model.onnx*"), lambda: GenAI(folder, threads, context))
