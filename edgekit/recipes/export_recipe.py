"""An export recipe: one YAML file that says target, precision, context and which weights get how many bits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from edgekit.errors import ConfigError
from edgekit.faults import faults_of
from edgekit.recipes.quant_recipe import QuantRecipe
from edgekit.recipes.targets import TargetName
from edgekit.settings import Settings
from edgekit.yaml_document import read_yaml


class ExportRecipe(Settings):
    """Everything an export needs besides the policy. Unknown keys are refused."""

    name: str
    """How the recipe is called; a file of edgekit's own is named like it."""
    description: str
    """One sentence for people."""
    target: TargetName
    """onnx, executorch or coreml."""
    precision: Literal["fp32", "fp16", "int8", "int4"]
    """What the bundle says of itself."""
    context_length: int = Field(default=1024, ge=16)
    """Slots of the KV cache; a model that knows fewer positions gets as many as it knows."""
    prefill_chunk: int = Field(default=16, ge=2)
    """Core ML only: prompt tokens a call takes; the other targets take a prompt whole."""
    layout: Literal["fused", "standard"] = "fused"
    """ONNX only. fused: one step over shared KV buffers; standard: the inputs optimum and transformers.js give."""
    compute: Literal["float32", "float16"] = "float32"
    """Core ML only: what it multiplies in, and how it stores what is no integer."""
    quantize: QuantRecipe = QuantRecipe()
    """Which weights get how many bits, and how."""

    @property
    def float_bytes(self) -> int:
        """Of a number that is no integer in the artifact."""
        return 2 if self.compute == "float16" else 4


def load_recipe(path: Path) -> ExportRecipe:
    """Read and check a recipe file. Raises :class:`ConfigError` listing every problem."""
    try:
        data = read_yaml(path)
    except OSError as error:
        raise ConfigError(f"recipe {path}", [f"cannot be read ({error.strerror})"]) from None
    except ValueError as error:
        raise ConfigError(f"recipe {path}", ["not YAML: " + " ".join(str(error).split())]) from None
    if not isinstance(data, dict):
        raise ConfigError(f"recipe {path}", ["not a mapping of keys to values"])
    try:
        return ExportRecipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"recipe {path}", [str(fault) for fault in faults_of(error, ExportRecipe)]) from None
