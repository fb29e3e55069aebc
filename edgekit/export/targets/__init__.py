"""One file per target, the same names in each: ARTIFACT, missing(), runtime(), lower(). A new target is one line."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from edgekit.errors import EdgekitError
from edgekit.progress import Say

if TYPE_CHECKING:
    from edgekit.policy.model import PolicyModel
    from edgekit.recipes.export_recipe import ExportRecipe

TARGETS = {
    "onnx": "edgekit.export.targets.to_onnx",
    "executorch": "edgekit.export.targets.to_executorch",
    "coreml": "edgekit.export.targets.to_coreml",
}


class TargetModule(Protocol):
    """What a target's file offers."""

    ARTIFACT: str

    def missing(self) -> str | None:
        """None if this host can lower to the target, else one sentence that says what to install."""

    def runtime(self) -> dict[str, str]:
        """``name`` and ``version`` of the runtime the artifact is made for."""

    def lower(
        self,
        model: PolicyModel,
        recipe: ExportRecipe,
        folder: Path,
        *,
        stop_token_ids: Sequence[int] = (),
        say: Say | None = None,
    ) -> Path:
        """Write the quantized ``model`` as ``folder/ARTIFACT``; returns that path.

        ``stop_token_ids`` go into the artifact where its format has a place for them; ``say`` hears each phase
        of a long lowering.
        """


def get_target(name: str) -> TargetModule:
    """The target called ``name``. Raises :class:`EdgekitError` for an unknown one."""
    if name not in TARGETS:
        raise EdgekitError(f"unknown target: {name}. edgekit exports to {', '.join(TARGETS)}. Choose one.")
    return cast(TargetModule, import_module(TARGETS[name]))
