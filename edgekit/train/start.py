"""What a run starts from: its base's policy folder, and the grid it is trained on, fitted to that model."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import ConfigError
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.grid import Grid
from edgekit.progress import Progress
from edgekit.quantize.quantized import weight_shapes
from edgekit.recipes.fit import fit_recipe, recipe_problems
from edgekit.recipes.lookup import find_recipe
from edgekit.train.config import TrainConfig
from edgekit.warm_start.bases import run_base


def start_of(
    config: TrainConfig, kept: Grid | None = None, on_progress: Progress | None = None
) -> tuple[Path, Grid | None]:
    """The policy folder that ``config`` starts from, made if need be, and its grid; None where it trains floats.

    ``kept``: the grid of a run that goes on, whatever its recipe has become since. Raises :class:`EdgekitError` if the
    base cannot be had or the recipe does not fit it.
    """
    folder = run_base(config, on_progress)
    if config.quantize is None:
        return folder, None
    grid = kept or _fitted(config.quantize, folder)
    return run_base(config, on_progress, grid=grid), grid


def _fitted(name: str, folder: Path) -> Grid:
    shapes, recipe = weight_shapes(load_policy(folder).model), find_recipe(name, None)
    if problems := recipe_problems(recipe, shapes):
        raise ConfigError(f"quantize {name}", problems)
    return Grid(recipe=recipe.name, quantize=fit_recipe(recipe, shapes)[0].quantize)
