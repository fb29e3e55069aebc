"""Whether a run can be trained on a recipe's grid."""

from __future__ import annotations

from edgekit.errors import EdgekitError
from edgekit.quantize.grid import grid_problems
from edgekit.recipes.lookup import find_recipe


def quantize_problems(recipe: str | None, *, adapters: bool, served: bool) -> list[str]:
    """Why a run cannot be trained on the grid of ``recipe``, a name or a file; empty if it can, or if that is None.

    ``adapters``: it trains adapters only. ``served``: a server samples its rollouts.
    """
    if recipe is None:
        return []
    try:
        found = find_recipe(recipe, None).quantize
    except EdgekitError as error:
        return [f"quantize: {str(error).rstrip('.')}"]
    problems = [f"quantize: {problem}" for problem in grid_problems(found)]
    if adapters:
        why = "adapters are merged into weights that a grid then rounds away"
        problems.append(f"quantize: {why}, leave lora_rank out or set quantize=null")
    if served and found.activations != "float":
        problems.append(f"quantize: a rollouts' server does not round activations as {recipe} does, set quantize=null")
    return problems
