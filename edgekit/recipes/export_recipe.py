"""An export recipe: one YAML file that says target, precision, context and which weights get how many bits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgekit.errors import ConfigError
from edgekit.recipes.quant_recipe import QuantRecipe

Target = Literal["onnx", "executorch", "coreml"]


class ExportRecipe(BaseModel):
    """Everything an export needs besides the policy. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    description: str
    target: Target
    precision: Literal["fp32", "fp16", "int8", "int4"]
    context_length: int = Field(default=1024, ge=16)
    """Slots of the KV cache; a model that knows fewer positions gets as many as it knows."""
    prefill_chunk: int = Field(default=16, ge=2)
    layout: Literal["fused", "standard"] = "fused"
    """ONNX only. fused: one step over shared KV buffers; standard: the inputs optimum and transformers.js give."""
    compute: Literal["float32", "float16"] = "float32"
    quantize: QuantRecipe = QuantRecipe()

    @model_validator(mode="after")
    def _check(self) -> ExportRecipe:
        if self.target != "coreml" and any(rule.palette for rule in self.quantize.rules):
            raise ValueError("palette is for coreml only")
        return self


def load_recipe(path: Path) -> ExportRecipe:
    """Read and check a recipe file. Raises :class:`ConfigError` listing every problem."""
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"recipe {path}", [f"cannot be read ({error.strerror})"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path}", ["not YAML: " + " ".join(str(error).split())]) from None
    if not isinstance(data, dict):
        raise ConfigError(f"recipe {path}", ["not a mapping of keys to values"])
    try:
        return ExportRecipe.model_validate(data)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"recipe {path}", problems) from None
