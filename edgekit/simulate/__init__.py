"""Run a bundle's artifact on this host: one file per runtime with open_artifact(); ``Target.simulator`` names it.

``open_artifact`` runs it here, in this process; :func:`open_simulator` and :func:`open_bundled` in one of its own, as
everything does that opens what somebody else made.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from edgekit.errors import BundleError, ErrorKind
from edgekit.routing.step_model import StepModel

if TYPE_CHECKING:
    from edgekit.bundle.load import Bundle
    from edgekit.simulate.process import ProcessModel


class SimulatedModel(StepModel, Protocol):
    """An artifact behind the step interface."""

    runtime: str
    """What really runs it, with its version."""
    cache: str
    """How its KV cache holds keys and values, in a recipe's words: float or int8."""


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
    """The same for an opened bundle's artifact, whose cache must be as its manifest says, and its logits as many.

    Raises :class:`BundleError` for another cache: a phone counts its memory by the manifest.
    """
    from edgekit.simulate.process import SimulatorProcess

    manifest, path, facts = bundle.manifest, bundle.artifact, bundle.manifest.model
    model = SimulatorProcess(path, manifest.artifact_bytes).open(
        manifest.target, path, facts.context_length, facts.prefill_chunk, vocab_size=facts.vocab_size
    )
    if model.cache != manifest.cache:
        why = f"Its recipe says a cache of {manifest.cache}, {manifest.artifact} has one of {model.cache}"
        raise BundleError(f"wrong manifest: {bundle.name}. {why}. Export the bundle again.", ErrorKind.BAD_FIELD)
    return model
