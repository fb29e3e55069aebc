"""Symmetric integer weights, rounded to nearest, and the linear that runs on them.

Scales are rounded to 8 significant bits (bfloat16's precision): XNNPACK stores bfloat16 block scales
and Core ML float16 ones, so a scale both can hold lets every target pack the very same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def fake_quantize_activations(x: Tensor) -> Tensor:
    """Round each token's vector (..., in) to 8 bits asymmetric and back, as XNNPACK's dynamic linears do."""
    low = x.amin(-1, keepdim=True).clamp(max=0)
    high = x.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).eps)
    zero = (-128 - low / scale).round().clamp(-128, 127)
    return ((x / scale + zero).round().clamp(-128, 127) - zero) * scale


@torch.library.custom_op("edgekit::quantized_linear", mutates_args=())
def quantized_linear(x: Tensor, values: Tensor, scales: Tensor, bits: int, int8_activations: bool) -> Tensor:  # noqa: ARG001
    """x (..., in) float32 @ dequantized(values, scales).T -> (..., out). Each target lowers this one operator."""
    return F.linear(fake_quantize_activations(x) if int8_activations else x, dequantize(values, scales))


@quantized_linear.register_fake
def _(x: Tensor, values: Tensor, scales: Tensor, bits: int, int8_activations: bool) -> Tensor:  # noqa: ARG001
    return x.new_empty((*x.shape[:-1], values.shape[0]))


class QuantizedLinear(nn.Module):
    """A linear on integer weights: eager it multiplies the dequantized weight, exported it is one operator."""

    values: Tensor
    scales: Tensor
    dequantized: Tensor

    def __init__(self, weight: IntegerWeight, bias: Tensor | None, int8_activations: bool) -> None:
        super().__init__()
        self.bits = weight.bits
        self.int8_activations = int8_activations
        self.register_buffer("values", weight.values)
        self.register_buffer("scales", weight.scales)
        self.register_buffer("dequantized", weight.dequantize(), persistent=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            y = quantized_linear(x, self.values, self.scales, self.bits, self.int8_activations)
        else:
            y = F.linear(fake_quantize_activations(x) if self.int8_activations else x, self.dequantized)
        return y if self.bias is None else y + self.bias
