"""No setting does nothing: what a user can write in YAML is read somewhere, under its own name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

import edgekit
from edgekit.experiment.config import ExperimentConfig
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.train.algorithms import ALGORITHMS, settings_of
from edgekit.train.config import TrainConfig
from edgekit.warm_start.kinds import KINDS
from edgekit.warm_start.traces import OnGrid

PACKAGE = Path(edgekit.__file__).parent
DOCUMENTS: list[type[BaseModel]] = [
    TrainConfig, ExperimentConfig, ExportRecipe, QuantRecipe, QuantRule, OnGrid,
    *(kind.settings for kind in KINDS.values()),
]  # fmt: skip
TOLD = {"description", "precision"}
"""What is only told: it goes into the manifest with the whole recipe, and from there to the reader's eye."""


@cache
def read_names() -> frozenset[str]:
    """Every attribute that the package reads of something other than the model's own validation."""
    return frozenset(name for path in PACKAGE.rglob("*.py") for name in _attributes(ast.parse(path.read_text())))


def _attributes(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "_check":
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        yield from _attributes(node)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.__name__)
def test_every_setting_is_read_somewhere(document: type[BaseModel]) -> None:
    of_algorithms = frozenset().union(*map(settings_of, ALGORITHMS)) if document is TrainConfig else frozenset()
    assert set(document.model_fields) - read_names() - of_algorithms - TOLD == set()
