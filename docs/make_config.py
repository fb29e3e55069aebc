"""Writes config.md, the reference of every configuration key, from the models that read the files.

Usage: .venv/bin/python docs/make_config.py
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edgekit.experiment import config as experiment
from edgekit.experiment.config import ExperimentConfig
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.train import config as training
from edgekit.train.config import TrainConfig
from edgekit.warm_start.kinds import KINDS
from edgekit.warm_start.traces import OnGrid

PAGE = Path(__file__).parent / "config.md"
HEAD = """# Configuration

Every key of every file that edgekit reads, with its default; made by `docs/make_config.py` from the models that check
the files. An unknown key is refused, with the one that may have been meant.
"""
SECTIONS = {
    "Training": (
        "`edgekit train CONFIG --set KEY=VALUE`, `edgekit.train(CONFIG, settings={...})`; kept as `config.yaml`.",
        TrainConfig,
    ),
    **{
        f"Training: `warm_start_settings` of `{name}`": (" ".join((kind.settings.__doc__ or "").split()), kind.settings)
        for name, kind in KINDS.items()
    },
    "Training: `warm_start_settings.on_grid` of `traces`": (" ".join((OnGrid.__doc__ or "").split()), OnGrid),
    "Experiments": (
        "`edgekit experiment CONFIG --set KEY=VALUE`, dots reach inside; kept as `experiment.yaml`.",
        ExperimentConfig,
    ),
    "Export recipes": ("`edgekit export RUN --target T --recipe FILE`.", ExportRecipe),
    "Export recipes: `quantize`": ("", QuantRecipe),
    "Export recipes: each of `quantize.rules`": ("", QuantRule),
}
KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false",
         "array": "list", "object": "mapping"}  # fmt: skip
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, (usage, model) in SECTIONS.items():
        parts.append(f"## {title}\n" + (f"\n{usage}\n" if usage else ""))
        if model is TrainConfig:
            parts.append(presets(training.PRESETS))
        if model is ExperimentConfig:
            parts.append(presets(experiment.PRESETS))
        parts.append("| key | value | default | |\n| --- | --- | --- | --- |\n" + "".join(rows(model)))
    return "\n".join(parts)


def presets(folder: Path) -> str:
    """Each preset by the first sentence of its file's comment."""
    lines = []
    for path in sorted(folder.glob("*.yaml")):
        comment = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
        told = " ".join(line.lstrip("# ") for line in comment)
        lines.append(f"- `{path.stem}`: {re.split(r'(?<=[a-z0-9])[.](?: |$)', told)[0]}.")
    return "Presets:\n\n" + "\n".join(lines) + "\n"


def rows(model: type[BaseModel]) -> Iterator[str]:
    """A row a key."""
    schema = model.model_json_schema()
    for key, field in model.model_fields.items():
        description = re.sub(r"``(.*?)``", r"`\1`", " ".join((field.description or "").split()))
        default = "" if field.is_required() else shown(field.get_default(call_default_factory=True))
        cells = [f"`{key}`", value(schema["properties"][key]), default, description]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def value(schema: dict[str, Any]) -> str:
    """What a key's value must be, of its JSON Schema."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(value(each) for each in schema["anyOf"]))
    if schema.get("type") == "null":
        return "null"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    kind = KINDS[schema["type"]] if "type" in schema else "mapping"
    return " ".join([kind, *(f"{words} {schema[bound]:g}" for bound, words in BOUNDS.items() if bound in schema)])


def shown(default: Any) -> str:
    """A default as YAML writes it."""
    if isinstance(default, BaseModel):
        return "its defaults"
    if default is None or isinstance(default, bool):
        return f"`{str({None: 'null'}.get(default, default)).lower()}`"
    if isinstance(default, tuple | list):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{default}`" if default != {} else "`{}`"


if __name__ == "__main__":
    PAGE.write_text(page())
