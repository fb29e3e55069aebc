"""What a run starts from: its base's policy folder, the grid it is trained on, fitted to that model, and the policy."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import ConfigError
from edgekit.policy.activations import plain_inputs
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.policy.device import open_device
from edgekit.policy.grid import Grid
from edgekit.progress import Progress
from edgekit.quantize.grid import GridWeights
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


def starting_policy(config: TrainConfig, folder: Path, grid: Grid | None) -> Policy:
    """The base in ``folder`` as training starts from it: in floats, without a marker bias, with the run's length of a
    response. ``grid``: what its weights will lie on.
    """
    policy = load_policy(folder)
    policy.model.to(open_device(config.device))
    plain_inputs(policy.model)
    policy.grid = grid
    policy.routing = policy.routing.uncalibrated()
    if config.max_new_tokens is not None:
        policy.routing = policy.routing.model_copy(update={"max_new_tokens": config.max_new_tokens})
    return policy


def untrained_policy(config: TrainConfig, folder: Path, grid: Grid | None) -> Policy:
    """The policy that acts in the first step: the starting one, its weights rounded where it has a ``grid``."""
    policy = starting_policy(config, folder, grid)
    if grid is not None:
        GridWeights(policy.model.requires_grad_(True), grid.quantize)
    return policy


def _fitted(name: str, folder: Path) -> Grid:
    shapes, recipe = weight_shapes(load_policy(folder).model), find_recipe(name, None)
    if problems := recipe_problems(recipe, shapes):
        raise ConfigError(f"quantize {name}", problems)
    return Grid(recipe=recipe.name, quantize=fit_recipe(recipe, shapes)[0].quantize)
