"""Weights that choose from a palette: 4-bit indices into 16 floats shared by a group of output channels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COLOURS = 16
ROUNDS = 50
"""Of Lloyd's algorithm, cheap on sorted weights; on normal ones the error ends within a percent of the least."""


@dataclass(frozen=True)
class PaletteWeight:
    """indices (out, in) uint8 below 16; table (groups, 16) float32; weight[o, i] = table[o // group, indices[o, i]]."""

    indices: Tensor
    table: Tensor

    def dequantize(self) -> Tensor:
        """The float32 weight (out, in) these indices stand for."""
        return look_up(self.indices, self.table)


def look_up(indices: Tensor, table: Tensor) -> Tensor:
    """indices (out, in) uint8 into table (groups, 16) -> (out, in) float32."""
    out, width = indices.shape
    grouped = indices.view(table.shape[0], -1).long()
    return table.gather(1, grouped).view(out, width)


def palettize_weight(weight: Tensor, group_size: int) -> PaletteWeight:
    """Choose 16 numbers for each ``group_size`` output channels of ``weight`` (out, in) by k-means.

    One-dimensional Lloyd iterations, started where the best palette of a normal distribution has its
    colours: their density goes with the cube root of the weights' (Panter and Dite, 1951), so it is a
    normal wider by sqrt 3. No random start, so equal weights give equal palettes. The table is rounded to
    float16, what Core ML stores. Raises ValueError if group_size does not divide the output channels.
    """
    out, width = weight.shape
    if out % group_size:
        raise ValueError(f"group_size {group_size} does not divide {out} output channels")
    ordered = weight.detach().float().reshape(out // group_size, group_size * width).sort(-1).values
    # Sorted, a colour's members are a run: its mean is a difference of prefix sums, whatever the run's length.
    sums = F.pad(ordered.double().cumsum(-1), (1, 0))
    even = (torch.arange(COLOURS, device=weight.device) + 0.5) / COLOURS
    table = ordered.mean(-1, keepdim=True) + 3**0.5 * ordered.std(-1, keepdim=True) * torch.special.ndtri(even)
    for _ in range(ROUNDS):
        table = _means(ordered, sums, table)
    table = table.half().float().sort(-1).values
    grouped = weight.detach().float().reshape(out // group_size, group_size * width)
    indices = _nearest(grouped, table)
    return PaletteWeight(indices.view(out, width), table)


def _borders(table: Tensor) -> Tensor:
    """Where the nearest colour changes: (groups, 15) midpoints of a sorted table."""
    return (table[:, 1:] + table[:, :-1]) / 2


def _means(ordered: Tensor, sums: Tensor, table: Tensor) -> Tensor:
    """The mean of each colour's members; a colour nobody chose stays."""
    size = ordered.shape[1]
    cuts = torch.searchsorted(ordered, _borders(table).contiguous())
    ends = F.pad(F.pad(cuts, (1, 0)), (0, 1), value=size)  # (groups, 17)
    counts = ends.diff(dim=1)
    totals = sums.gather(1, ends).diff(dim=1)
    return torch.where(counts > 0, (totals / counts.clamp(min=1)).float(), table)


def _nearest(grouped: Tensor, table: Tensor) -> Tensor:
    return torch.searchsorted(_borders(table).contiguous(), grouped.contiguous()).to(torch.uint8)


class PalettizedLinear(nn.Module):
    """A linear on a palette."""

    indices: Tensor
    table: Tensor

    def __init__(self, weight: PaletteWeight, bias: Tensor | None) -> None:
        super().__init__()
        self.bits = 4
        self.register_buffer("indices", weight.indices)
        self.register_buffer("table", weight.table)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    @cached_property
    def dequantized(self) -> Tensor:
        """The float32 weight, made when first multiplied: an export never needs it."""
        return look_up(self.indices, self.table)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.dequantized, self.bias)


class PalettizedEmbedding(nn.Module):
    """An embedding on a palette. Tied to a head of the same rule, both hold the very same tensors."""

    indices: Tensor
    table: Tensor

    def __init__(self, weight: PaletteWeight) -> None:
        super().__init__()
        self.bits = 4
        self.register_buffer("indices", weight.indices)
        self.register_buffer("table", weight.table)

    def forward(self, token_ids: Tensor) -> Tensor:
        group = self.indices.shape[0] // self.table.shape[0]
        tables = self.table[token_ids // group]  # (..., 16)
        return tables.gather(-1, self.indices[token_ids].long())
