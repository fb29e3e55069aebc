"""Symmetric integer weights, rounded to nearest, and the linear that runs on them.

Scales are rounded to 8 significant bits (bfloat16's precision): XNNPACK stores bfloat16 block scales
and Core ML float16 ones, so a scale both can hold lets every target pack the very same numbers.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.policy.activations import round_activations
from edgekit.recipes.quant_recipe import Activations

SMALLEST_SCALE = 2.0**-14  # the smallest normal float16


@dataclass(frozen=True)
class IntegerWeight:
    """values (out, in) int8 in [-2^(bits-1)+1, 2^(bits-1)-1]; scales (out, groups) float32; weight = values * scale."""

    values: Tensor
    scales: Tensor
    bits: int

    @property
    def group_size(self) -> int:
        """Inputs that share a scale."""
        return self.values.shape[1] // self.scales.shape[1]

    def dequantize(self) -> Tensor:
        """The float32 weight (out, in) these integers stand for."""
        return dequantize(self.values, self.scales)


def dequantize(values: Tensor, scales: Tensor) -> Tensor:
    """values (out, in) int8 times their group's scale (out, groups) -> (out, in) float32."""
    out, width = values.shape
    grouped = values.float().view(out, scales.shape[1], -1) * scales.unsqueeze(-1)
    return grouped.view(out, width)


def quantize_weight(weight: Tensor, bits: int, group_size: int) -> IntegerWeight:
    """Round ``weight`` (out, in) to nearest; group_size 0 means one scale per output channel.

    Raises ValueError if group_size does not divide the inputs.
    """
    out, width = weight.shape
    group = group_size or width
    if width % group:
        raise ValueError(f"group_size {group} does not divide {width} inputs")
    largest = 2 ** (bits - 1) - 1
    grouped = weight.detach().float().view(out, width // group, group)
    scales = (grouped.abs().amax(-1) / largest).clamp(min=SMALLEST_SCALE).bfloat16().float()
    values = (grouped / scales.unsqueeze(-1)).round().clamp(-largest, largest)
    return IntegerWeight(values.to(torch.int8).view(out, width), scales, bits)


@torch.library.custom_op("edgekit::quantized_linear", mutates_args=())
def quantized_linear(x: Tensor, values: Tensor, scales: Tensor, bits: int, activations: str) -> Tensor:  # noqa: ARG001
    """x (..., in) float32 @ dequantized(values, scales).T -> (..., out). Each target lowers this one operator."""
    group = values.shape[1] // scales.shape[1]
    return F.linear(round_activations(x, activations, group), dequantize(values, scales))


@quantized_linear.register_fake
def _(x: Tensor, values: Tensor, scales: Tensor, bits: int, activations: str) -> Tensor:  # noqa: ARG001
    return x.new_empty((*x.shape[:-1], values.shape[0]))


class QuantizedLinear(nn.Module):
    """A linear on integer weights: eager it multiplies the dequantized weight, exported it is one operator."""

    values: Tensor
    scales: Tensor

    def __init__(self, weight: IntegerWeight, bias: Tensor | None, activations: Activations) -> None:
        super().__init__()
        self.bits = weight.bits
        self.activations: Activations = activations
        self.register_buffer("values", weight.values)
        self.register_buffer("scales", weight.scales)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    @cached_property
    def dequantized(self) -> Tensor:
        """The float32 weight, made when first multiplied: an export never needs it."""
        return dequantize(self.values, self.scales)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            y = quantized_linear(x, self.values, self.scales, self.bits, self.activations)
            return y if self.bias is None else y + self.bias
        group = self.values.shape[1] // self.scales.shape[1]
        return F.linear(round_activations(x, self.activations, group), self.dequantized, self.bias)


@torch.library.custom_op("edgekit::quantized_embedding", mutates_args=())
def quantized_embedding(token_ids: Tensor, values: Tensor, scales: Tensor, bits: int) -> Tensor:  # noqa: ARG001
    """Rows token_ids (...) of dequantized(values, scales) -> (..., width) float32."""
    rows = token_ids.reshape(-1)
    return dequantize(values[rows], scales[rows]).reshape(*token_ids.shape, -1)


@quantized_embedding.register_fake
def _(token_ids: Tensor, values: Tensor, scales: Tensor, bits: int) -> Tensor:  # noqa: ARG001
    return scales.new_empty((*token_ids.shape, values.shape[1]))


class QuantizedEmbedding(nn.Module):
    """An embedding on integer rows. Tied to a head of the same rule, both hold the very same tensors."""

    values: Tensor
    scales: Tensor

    def __init__(self, weight: IntegerWeight) -> None:
        super().__init__()
        self.bits = weight.bits
        self.register_buffer("values", weight.values)
        self.register_buffer("scales", weight.scales)

    def forward(self, token_ids: Tensor) -> Tensor:
        return quantized_embedding(token_ids, self.values, self.scales, self.bits)


def forget_floats(module: nn.Module) -> None:
    """Free what the linears in ``module`` have dequantized, four times their integers; it comes back in use.

    What glibc keeps of freed memory goes back to the system too: rounding a layer leaves hundreds of megabytes.
    """
    for part in module.modules():
        part.__dict__.pop("dequantized", None)
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in every C library
        if trim is not None:
            trim(0)
