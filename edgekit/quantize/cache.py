"""A KV cache of integers: each channel of a key or value head on a scale of its own, fixed when it is exported.

What the cache holds is what attention reads, of the newest token too, so rounding keys and values where a layer makes
them is the very arithmetic of a runtime that stores them as int8.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.policy.attention import causal
from edgekit.policy.model import Attention, PolicyModel


class CacheGrid(nn.Module):
    """x (..., K, D) -> the nearest of its channel's 256 multiples of ``scales`` (K, D) float32."""

    scales: Tensor

    def __init__(self, scales: Tensor) -> None:
        super().__init__()
        self.register_buffer("scales", scales, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x / self.scales).round().clamp(-128, 127) * self.scales


@torch.no_grad()
def calibrate_caches(model: PolicyModel, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Give every layer of ``model``, in place, the grids that span the keys and values of ``batches``.

    A batch is tokens (n, T) int64 and which of them are real (n, T) bool; the others count for nothing. A larger value
    met later is held as the largest seen.
    """
    widest: dict[nn.Module, Tensor] = {}
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    for tokens, real in batches:
        padding = ~real[..., None, None]

        def look(place: nn.Module, _: Any, x: Tensor, padding: Tensor = padding) -> None:
            found = x.abs().masked_fill(padding, 0).amax(dim=(0, 1))
            widest[place] = torch.maximum(widest[place], found) if place in widest else found

        hooks = [grid.register_forward_hook(look) for layer in layers for grid in (layer.key_grid, layer.value_grid)]
        model.hidden(tokens, *causal(tokens, None))
        for hook in hooks:
            hook.remove()
    for layer in layers:
        layer.key_grid, layer.value_grid = (_grid(widest[place]) for place in (layer.key_grid, layer.value_grid))


def _grid(widest: Tensor) -> CacheGrid:
    return CacheGrid((widest.float() / 127).clamp(min=torch.finfo(torch.float32).tiny))
