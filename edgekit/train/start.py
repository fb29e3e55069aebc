"""What a run starts from: its base's policy folder, and the grid it is trained on, fitted to that model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import ConfigError, EdgekitError
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.grid import Grid
from edgekit.progress import Progress
from edgekit.quantize.grid import grid_problems
from edgekit.quantize.quantized import weight_shapes
from edgekit.recipes.fit import fit_recipe, recipe_problems
from edgekit.recipes.lookup import find_recipe
from edgekit.warm_start.bases import run_base

if TYPE_CHECKING:
    from edgekit.train.config import TrainConfig


def quantize_problems(config: TrainConfig) -> list[str]:
    """Why ``config`` cannot be trained on the grid that it asks for; empty if it can, or asks for none."""
    if config.quantize is None:
        return []
    try:
        recipe = find_recipe(config.quantize, None).quantize
    except EdgekitError as error:
        return [f"quantize: {str(error).rstrip('.')}"]
    problems = [f"quantize: {problem}" for problem in grid_problems(recipe)]
    if config.lora_rank is not None:
        problems.append("quantize: adapters are merged into weights that a grid then rounds away, leave lora_rank out")
    if config.rollouts != "local" and recipe.activations != "float":
        problems.append(f"quantize: a rollouts' server does not round activations as {config.quantize} does")
    return problems


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
