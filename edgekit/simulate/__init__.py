"""Run a bundle's artifact on this host: one file per runtime with open_artifact(); ``Target.simulator`` names it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from edgekit.errors import BackendMissing
from edgekit.recipes.targets import get_target
from edgekit.routing.decode_loop import StepModel


class SimulatedModel(StepModel, Protocol):
    """An artifact behind the step interface."""

    runtime: str
    """What really runs it, with its version."""


class Simulator(Protocol):
    """What a simulator's file offers."""

    def open_artifact(self, path: Path, context_length: int, prefill_chunk: int) -> SimulatedModel:
        """Load the artifact at ``path``."""


def get_simulator(target: str) -> Simulator:
    """What runs artifacts of ``target`` here. Raises :class:`EdgekitError` for an unknown one."""
    return cast(Simulator, import_module(get_target(target).simulator))


def open_simulator(target: str, path: Path, context_length: int, prefill_chunk: int) -> SimulatedModel:
    """Load an artifact. Raises :class:`BackendMissing` if this host lacks its runtime."""
    lacking = get_target(target).missing_to_run()
    if lacking is not None:
        raise BackendMissing(f"cannot run {path}: {lacking}.")
    return get_simulator(target).open_artifact(path, context_length, prefill_chunk)
