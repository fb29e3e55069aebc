"""What to quantize, as data: ordered rules, first match wins. Knows no tensor and no backend."""

from __future__ import annotations

import fnmatch
from typing import Literal

from pydantic import Field, model_validator

from edgekit.settings import Settings

Activations = Literal["float", "int8", "int8_block"]
Cache = Literal["float", "int8"]


class QuantRule(Settings):
    """Weights whose module name matches ``match`` (a glob such as ``*.mlp.*`` or ``lm_head``).

    ``bits`` 4 or 8 are symmetric integers with one scale per ``group_size`` inputs (0: one per
    output channel); 16 and 32 leave the weight a float. With ``palette``, 4 bits choose from a table of
    16 floats shared by ``group_size`` output channels instead (Core ML only).
    """

    match: str
    """A glob over module names, such as `*.mlp.*` or `lm_head`."""
    bits: Literal[4, 8, 16, 32]
    """4 and 8: symmetric integers; 16 and 32: the weight stays a float."""
    group_size: int = Field(default=0, ge=0)
    """Inputs that share a scale. 0: all of an output channel's."""
    palette: bool = False
    """Core ML only: 4 bits choose from a table of 16 floats shared by group_size output channels."""

    @model_validator(mode="after")
    def _check(self) -> QuantRule:
        if self.bits == 4 and self.group_size == 0:
            raise ValueError("4 bits need a group_size (32)")
        if self.bits in (16, 32) and self.group_size:
            raise ValueError("group_size is for 4 and 8 bits only")
        if self.palette and self.bits != 4:
            raise ValueError("a palette has 4 bits")
        return self

    @property
    def numbers(self) -> tuple[int, int, bool]:
        """What becomes of a weight, whatever the match: bits, group size, palette."""
        return self.bits, self.group_size, self.palette


class QuantRecipe(Settings):
    """Ordered rules, and how activations enter a quantized linear.

    ``activations`` say how a quantized linear's input is rounded at run time: ``int8`` each token's vector
    to 8 bits, asymmetric (XNNPACK); ``int8_block`` each of the weight's blocks of a token's vector to 8 bits,
    symmetric (ONNX Runtime's accuracy level 4). The quantized reference does the same, so it belongs to the
    quantization hop. ``rounding`` ``gptq`` spreads each column's rounding error over the columns after it,
    weighed by what ``calibration_prompts`` of the task's training split make the policy see. ``cache`` ``int8`` keeps
    keys and values as integers, each channel of a head on a scale of its own that spans what the same prompts make it
    hold: a step far into a long answer then reads a quarter of the bytes.
    """

    rules: tuple[QuantRule, ...] = ()
    """Tried in order; the first that matches wins. Unmatched weights stay floats."""
    activations: Activations = "float"
    """How a quantized linear's input is rounded at run time: not, a token's whole vector, or its blocks."""
    rounding: Literal["nearest", "gptq"] = "nearest"
    """nearest, or gptq: each column's error is spread over the columns after it."""
    calibration_prompts: int = Field(default=128, ge=1)
    """Training problems whose rollouts gptq weighs errors by, and a cache of integers finds its scales on."""
    cache: Cache = "float"
    """How the KV cache holds keys and values: as floats, or (ONNX only) as int8 with a scale for each channel."""

    @property
    def reads_rollouts(self) -> bool:
        """Whether what it rounds depends on the policy's own responses to ``calibration_prompts``."""
        return self.rounding == "gptq" or self.cache == "int8"

    def rule_for(self, name: str) -> QuantRule | None:
        """The first rule matching a linear's or embedding's module name, e.g. ``model.layers.0.mlp.up_proj``."""
        return next((rule for rule in self.rules if fnmatch.fnmatchcase(name, rule.match)), None)
