"""Finding an export recipe by name or by file."""

from __future__ import annotations

from pathlib import Path

import edgekit
from edgekit.errors import EdgekitError
from edgekit.recipes.export_recipe import ExportRecipe, load_recipe


def recipe_folders() -> list[Path]:
    """Where named recipes lie: the repository's folder, or the copy that a wheel carries."""
    package = Path(edgekit.__file__).parent
    return [f for f in (package.parent / "export_recipes", package / "export_recipes") if f.is_dir()]


def named_recipes() -> dict[str, Path]:
    """Every recipe that can be named, sorted."""
    found = {path.stem: path for folder in reversed(recipe_folders()) for path in folder.glob("*.yaml")}
    return dict(sorted(found.items()))


def find_recipe(name_or_path: str | Path | None, target: str | None) -> ExportRecipe:
    """The recipe for ``target``: a YAML file, a named recipe, or ``{target}_int4_decisions`` if None.

    ``target`` None: a recipe that is named, for whichever target. Raises :class:`EdgekitError` if there is none, or if
    it is made for another target.
    """
    name = str(name_or_path) if name_or_path is not None else f"{target}_int4_decisions"
    named = named_recipes()
    path = Path(name)
    if name in named:
        path = named[name]
    elif not path.is_file():
        known = ", ".join(each for each in named if each.startswith(target or "")) or "none"
        raise EdgekitError(f"unknown recipe: {name}. Neither a file nor one of {known}. Name one.")
    recipe = load_recipe(path)
    if target not in (None, recipe.target):
        raise EdgekitError(f"wrong recipe: {name}. It is for {recipe.target}, not {target}. Choose one for {target}.")
    return recipe
