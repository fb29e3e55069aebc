"""The targets by name. A new one is its file here, and its line."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from edgekit.errors import EdgekitError
from edgekit.recipes.targets import coreml, executorch, onnx
from edgekit.recipes.targets.base import Integers, Needs, Runtime, Target

TARGETS: dict[str, Target] = {
    "onnx": onnx.TARGET,
    "executorch": executorch.TARGET,
    "coreml": coreml.TARGET,
}

__all__ = ["TARGETS", "Integers", "Needs", "Runtime", "Target", "TargetName", "get_target"]


def get_target(name: str) -> Target:
    """The target called ``name``. Raises :class:`EdgekitError` for an unknown one."""
    if name not in TARGETS:
        raise EdgekitError(f"unknown target: {name}. edgekit has {', '.join(TARGETS)}. Choose one.")
    return TARGETS[name]


def _known(name: str) -> str:
    if name not in TARGETS:
        raise ValueError(f"unknown target {name!r}, edgekit has {', '.join(TARGETS)}")
    return name


TargetName = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(TARGETS)})]
"""The name of a target that edgekit knows, in a document."""
