"""grid.json: the recipe on whose grid a policy was trained, kept beside its weights.

The weights lie on the grid, so the recipe's integers and scales follow from them exactly. How the target rounds
activations does not show in them: whoever loads the folder reads it here.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekit.atomic_write import write_file
from edgekit.errors import BundleError
from edgekit.faults import faults_of
from edgekit.plain_file import read_text
from edgekit.recipes.quant_recipe import QuantRecipe

GRID_FILE = "grid.json"
FLOATS = "floats"
"""The folder, in that of a policy on a grid, of the policy in floats that rounds to it, which only training reads."""
GRID_VERSION = 1


class Grid(BaseModel):
    """The recipe's name, and its rules and activations as they were then."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: int = Field(default=GRID_VERSION, le=GRID_VERSION)
    recipe: str
    quantize: QuantRecipe

    def has_numbers_of(self, other: Grid) -> bool:
        """Whether the same floats round to the same weights on both, however their targets round activations."""
        return self.quantize.rules == other.quantize.rules

    def save(self, folder: Path) -> None:
        """Write ``folder``/grid.json atomically."""
        write_file(folder / GRID_FILE, self.model_dump_json(indent=2) + "\n")


def floats_behind(folder: Path, grid: Grid) -> Path:
    """The folder of the floats behind the policy in ``folder`` if it lies on ``grid`` and keeps them, else ``folder``.

    Raises :class:`BundleError` for a grid.json that cannot be read.
    """
    own, floats = load_grid(folder), folder / FLOATS
    return floats if own is not None and own.has_numbers_of(grid) and floats.is_dir() else folder


def load_grid(folder: Path) -> Grid | None:
    """The grid of the policy in ``folder``; None if it was trained in floats. Raises :class:`BundleError`."""
    path = folder / GRID_FILE
    try:
        return Grid.model_validate(json.loads(read_text(path)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        faults = faults_of(error, Grid) if isinstance(error, ValidationError) else [error]
        said = "; ".join(" ".join(str(fault).split()) for fault in faults)
        raise BundleError(f"unreadable grid: {path}. {said[:200]}. Write the policy again, or remove it.") from None
