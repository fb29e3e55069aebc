"""Writes the JSON Schemas beside this file from the models that read the documents.

Usage: .venv/bin/python docs/schema/make.py
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from edgekit.bundle.conformance import ConformanceLine
from edgekit.bundle.manifest import Manifest
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.turns import TurnFormat
from edgekit.verify.device_report import DeviceReport

HERE = Path(__file__).parent
MODELS: dict[str, type[BaseModel]] = {
    "routing": RoutingSpec,
    "manifest": Manifest,
    "conformance": ConformanceLine,  # one line of conformance.jsonl
    "device_report": DeviceReport,
    "turns": TurnFormat,
}


def schema_text(model: type[BaseModel]) -> str:
    """The file's text (JSON Schema 2020-12)."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    for name, model in MODELS.items():
        (HERE / f"{name}.json").write_text(schema_text(model))
