"""docs/config.md says of every key what the models say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

MAKE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "make_config.py"))


def test_the_page_is_what_the_models_make() -> None:
    assert MAKE["PAGE"].read_text() == MAKE["page"](), "run .venv/bin/python docs/make_config.py"


@pytest.mark.parametrize("model", [model for _, model in MAKE["SECTIONS"].values()], ids=lambda model: model.__name__)
def test_every_key_is_described(model: type) -> None:
    assert [key for key, field in model.model_fields.items() if not field.description] == []  # type: ignore[attr-defined]
