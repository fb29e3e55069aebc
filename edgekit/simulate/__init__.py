"""Run a bundle's artifact on this host: one file per runtime with open_artifact(); ``Target.simulator`` names it.

``open_artifact`` runs it here, in this process; :func:`open_simulator` and :func:`open_bundled` in one of its own, as
everything does that opens what somebody else made.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from edgekit.routing.step_model import StepModel

if TYPE_CHECKING:
    from edgekit.bundle.load import Bundle
    from edgekit.simulate.process import ProcessModel


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
    from edgekit.recipes.targets import get_target

    return cast(Simulator, import_module(get_target(target).simulator))


def open_simulator(target: str, path: Path, context_length: int, prefill_chunk: int) -> ProcessModel:
    """Load an artifact in a process of its own. Raises :class:`BackendMissing` if this host lacks its runtime."""
    from edgekit.simulate.process import SimulatorProcess, artifact_bytes

    return SimulatorProcess(path, artifact_bytes(path)).open(target, path, context_length, prefill_chunk)


def open_bundled(bundle: Bundle) -> ProcessModel:
    """The same for the artifact of an opened bundle, whose logits must be as many as its manifest says."""
    from edgekit.simulate.process import SimulatorProcess

    facts, path = bundle.manifest.model, bundle.artifact
    process = SimulatorProcess(path, bundle.manifest.artifact_bytes)
    return process.open(
        bundle.manifest.target, path, facts.context_length, facts.prefill_chunk, vocab_size=facts.vocab_size
    )
