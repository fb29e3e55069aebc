"""Run a Core ML artifact: Apple's own runtime on macOS, our simulator of the package elsewhere."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import BundleError, EdgekitError
from edgekit.routing.step_model import Logits
from edgekit.simulate.coreml.loader import load_program
from edgekit.simulate.coreml.package import open_package
from edgekit.simulate.coreml.program import Program
from edgekit.version import __version__

Call = Callable[[np.ndarray, np.ndarray], Any]
"""(token_ids (1, T) int32, position (1,) int32) -> logits (1, vocab), over one shared state."""


class CoreMLModel:
    """A StepModel over a package's ``prefill`` and ``decode`` functions.

    A prompt goes through ``prefill`` in chunks, the last one filled up with copies of its last token;
    ``decode`` then takes that token in its own place. The copies lie in slots after it, which the mask
    hides until later tokens overwrite them. ``runtime`` says what really ran.
    """

    def __init__(
        self, prefill: Call, decode: Call, forget: Callable[[], None], context_length: int, chunk: int, runtime: str
    ) -> None:
        self.context_length = context_length
        self.runtime, self.cache = runtime, "float"
        self._prefill, self._decode, self._forget, self._chunk = prefill, decode, forget, chunk
        self._position = 0

    def reset(self) -> None:
        """Forget the KV cache."""
        self._forget()
        self._position = 0

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """Take a prompt; returns the next token's logits (vocab,) float32. Raises EdgekitError if it is too long."""
        if not token_ids:
            raise EdgekitError("empty prompt: 0 tokens. There is nothing to continue. Pass at least one token.")
        if self._position + len(token_ids) > self.context_length:
            raise self._full(len(token_ids))
        logits: Any = None
        left = list(token_ids)
        while len(left) > 1 and self._position + self._chunk <= self.context_length:
            part, left = left[: self._chunk], left[self._chunk :]
            short = self._chunk - len(part)
            logits = self._step(self._prefill, part + part[-1:] * short)
            if short:
                self._position -= short + 1
                left = part[-1:]
        for token in left:
            logits = self._step(self._decode, [token])
        return logits

    def decode(self, token_id: int) -> Logits:
        """Take one more token; returns the next token's logits (vocab,) float32."""
        return self._step(self._decode, [token_id])

    def _step(self, call: Call, token_ids: Sequence[int]) -> Logits:
        if self._position + len(token_ids) > self.context_length:
            raise self._full(len(token_ids))
        tokens = np.array([token_ids], np.int32)
        logits = call(tokens, np.array([self._position], np.int32))
        self._position += len(token_ids)
        return np.asarray(logits, np.float32)[0]

    def _full(self, more: int) -> EdgekitError:
        return EdgekitError(
            f"context full: {self._position + more} tokens. "
            f"The artifact holds {self.context_length}. Shorten the prompt."
        )


def open_artifact(path: Path, context_length: int, prefill_chunk: int) -> CoreMLModel:
    """Open ``path`` (model.mlpackage). Raises BundleError, or EdgekitError for an unknown operation."""
    if sys.platform == "darwin":
        return _open_apple(path, context_length, prefill_chunk)
    return _open_simulator(path, context_length, prefill_chunk)


def _open_simulator(path: Path, context_length: int, chunk: int) -> CoreMLModel:
    package = open_package(path)
    prefill, decode = load_program(package, "prefill"), load_program(package, "decode")
    _check_fit(prefill, path, context_length, chunk)
    _check_fit(decode, path, context_length, 1)
    states = decode.zero_states()
    if prefill.states != decode.states:
        raise BundleError(f"functions of {path} have different states. They must share one cache. Export it again.")

    def call(program: Program) -> Call:
        return lambda tokens, position: program.run({"token_ids": tokens, "position": position}, states)["logits"]

    def forget() -> None:
        for state in states.values():
            state.fill(0)

    runtime = f"Core ML simulator (edgekit {__version__})"
    return CoreMLModel(call(prefill), call(decode), forget, context_length, chunk, runtime)


def _check_fit(program: Program, path: Path, context_length: int, tokens: int) -> None:
    token_ids = program.inputs.get("token_ids")
    if set(program.inputs) != {"token_ids", "position"} or list(program.outputs) != ["logits"]:
        raise BundleError(
            f"not an edgekit artifact: {program.name} of {path} takes {sorted(program.inputs)} and returns "
            f"{sorted(program.outputs)}. It needs token_ids, position and logits. Export it again."
        )
    slots = {type_.shape[2] for type_ in program.states.values()}
    if token_ids is None or token_ids.shape != (1, tokens) or slots != {context_length}:
        raise BundleError(
            f"artifact does not fit its bundle: {program.name} of {path} takes {token_ids and token_ids.shape} tokens "
            f"over {sorted(slots)} slots. The bundle says (1, {tokens}) over {context_length}. Export it again."
        )


def _open_apple(path: Path, context_length: int, chunk: int) -> CoreMLModel:
    """Apple's runtime; both functions work on one MLState."""
    import coremltools

    functions = {name: coremltools.models.MLModel(str(path), function_name=name) for name in ("prefill", "decode")}
    states = [functions["decode"].make_state()]

    def call(name: str) -> Call:
        model = functions[name]
        return lambda tokens, position: model.predict({"token_ids": tokens, "position": position}, state=states[0])[
            "logits"
        ]

    def forget() -> None:
        states[0] = functions["decode"].make_state()

    runtime = f"Core ML (macOS {platform.mac_ver()[0]})"
    return CoreMLModel(call("prefill"), call("decode"), forget, context_length, chunk, runtime)
