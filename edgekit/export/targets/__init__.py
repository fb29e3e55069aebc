"""One file per target that lowers to it, with problems(), lower(), oldest_runtime(); ``Target.lowering`` names it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from edgekit.progress import Say
from edgekit.recipes.targets import get_target

if TYPE_CHECKING:
    from edgekit.policy.model import ModelConfig, PolicyModel
    from edgekit.recipes.export_recipe import ExportRecipe


class Lowering(Protocol):
    """What a target's file offers."""

    def problems(self, config: ModelConfig, recipe: ExportRecipe) -> list[str]:
        """Every reason why a model of ``config`` cannot be lowered by ``recipe``; empty if it can.

        What the target's record knows is checked before: its integers, activations and settings.
        """

    def lower(
        self,
        model: PolicyModel,
        recipe: ExportRecipe,
        folder: Path,
        *,
        stop_token_ids: Sequence[int] = (),
        say: Say | None = None,
    ) -> Path:
        """Write the quantized ``model``, against which there are no problems, as the target's artifact in ``folder``.

        Returns its path. ``stop_token_ids`` go into the artifact where its format has a place for them; ``say`` hears
        each phase of a long lowering.
        """

    def oldest_runtime(self, model: PolicyModel, recipe: ExportRecipe) -> str:
        """The oldest version of the target's runtime that runs the artifact of the quantized ``model``, as "1.23"."""


def get_lowering(target: str) -> Lowering:
    """What lowers to ``target``. Raises :class:`EdgekitError` for an unknown one."""
    return cast(Lowering, import_module(get_target(target).lowering))
