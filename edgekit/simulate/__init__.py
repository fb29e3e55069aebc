"""Run a bundle's artifact on this host: one file per target, the same names in each: missing(), open_artifact()."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from edgekit.errors import BackendMissing, EdgekitError
from edgekit.routing.decode_loop import StepModel

SIMULATORS = {
    "onnx": "edgekit.simulate.on_onnxruntime",
    "executorch": "edgekit.simulate.on_executorch",
    "coreml": "edgekit.simulate.on_coreml",
}


class SimulatedModel(StepModel, Protocol):
    """An artifact behind the step interface."""

    runtime: str
    """What really runs it, with its version."""


class SimulatorModule(Protocol):
    """What a simulator's file offers."""

    def missing(self) -> str | None:
        """None if this host can run the target's artifacts, else one sentence that says what to install."""

    def open_artifact(self, path: Path, context_length: int, prefill_chunk: int) -> SimulatedModel:
        """Load the artifact at ``path``."""


def get_simulator(target: str) -> SimulatorModule:
    """The simulator for ``target``. Raises :class:`EdgekitError` for an unknown one."""
    if target not in SIMULATORS:
        raise EdgekitError(f"unknown target: {target}. edgekit runs {', '.join(SIMULATORS)}. Export for one.")
    return cast(SimulatorModule, import_module(SIMULATORS[target]))


def open_simulator(target: str, path: Path, context_length: int, prefill_chunk: int) -> SimulatedModel:
    """Load an artifact. Raises :class:`BackendMissing` if this host lacks its runtime."""
    simulator = get_simulator(target)
    lacking = simulator.missing()
    if lacking is not None:
        raise BackendMissing(f"cannot run {path}: {lacking}.")
    return simulator.open_artifact(path, context_length, prefill_chunk)
