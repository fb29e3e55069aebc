"""Checking an export whole before any of its work: the recipe against its target, the model and this host."""

from __future__ import annotations

from edgekit.errors import BackendMissing, ConfigError
from edgekit.export.targets import get_lowering
from edgekit.policy.model import PolicyModel
from edgekit.quantize.quantized import weight_shapes
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.fit import Fallback, fit_recipe, recipe_problems
from edgekit.recipes.targets import get_target


def plan_export(model: PolicyModel, recipe: ExportRecipe) -> tuple[ExportRecipe, list[Fallback]]:
    """What :func:`fit_to_model` gives. Raises :class:`BackendMissing` too, if this host cannot lower to the target."""
    fitted = fit_to_model(model, recipe)
    require_lowering(recipe.target)
    return fitted


def fit_to_model(model: PolicyModel, recipe: ExportRecipe) -> tuple[ExportRecipe, list[Fallback]]:
    """``recipe`` as ``model`` gets it, and the weights that get other numbers than it asks for.

    Its context is no longer than the model's. Raises :class:`ConfigError` naming every reason why it does not fit.
    """
    config, shapes = model.config, weight_shapes(model)
    length = min(recipe.context_length, config.context_length)
    recipe = recipe.model_copy(update={"context_length": length})
    problems = recipe_problems(recipe, shapes) + get_lowering(recipe.target).problems(config, recipe)
    if problems:
        raise ConfigError(f"recipe {recipe.name}", problems)
    return fit_recipe(recipe, shapes)


def require_lowering(target: str) -> None:
    """Raise :class:`BackendMissing` if this host cannot lower to ``target``."""
    lacking = get_target(target).missing_to_lower()
    if lacking is not None:
        raise BackendMissing(f"cannot export to {target}: {lacking}.")
