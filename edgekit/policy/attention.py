"""Attention as a plug of the model: what it is given, the plain one over whole sequences, and the product itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

Attend = Callable[[int, Tensor, Tensor, Tensor, int | None], Tensor]
"""(layer, q (B, H, T, D), k (B, K, T, D), v (B, K, T, D), window) -> context (B, H, T, D).

A query sees the ``window`` last positions, its own included; None: all up to its own.
"""


def expand_groups(x: Tensor, heads: int) -> Tensor:
    """Repeat each KV head for its queries: (B, K, S, D) -> (B, heads, S, D)."""
    batch, kv_heads, length, dim = x.shape
    if kv_heads == heads:
        return x
    return x.unsqueeze(2).expand(batch, kv_heads, heads // kv_heads, length, dim).reshape(batch, heads, length, dim)


def visible(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    """Whether a query sees a key, (..., T, S) bool, by their places, queries (..., T, 1) and keys (S,)."""
    earlier = keys <= queries
    return earlier if window is None else earlier & (keys > queries - window)


def causal(token_ids: Tensor, padding: Tensor | None) -> tuple[Tensor, Attend]:
    """Positions and the attention of a full left-padded batch."""
    length = token_ids.shape[1]
    index = torch.arange(length, device=token_ids.device)
    positions, real = index, None
    if padding is not None:
        positions = (index[None, :] - padding[:, None]).clamp(min=0)  # (B, T)
        # A padding query sees itself, so that its softmax is defined; nothing reads its output.
        real = (index[None, None, :] >= padding[:, None, None]) | (index[:, None] == index)

    @cache
    def mask(window: int | None) -> Tensor:
        seen = visible(index[:, None], index, window)
        return seen if real is None else (seen & real).unsqueeze(1)  # (T, T) or (B, 1, T, T)

    def attend(_: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        window = None if window is None or window >= length else window
        if real is None and window is None:
            return attention(q, k, v, is_causal=True)
        return attention(q, k, v, mask(window))

    return positions, attend


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
    """Grouped-query attention, kept out of autocast: its bfloat16 backward is ten times slower on a CPU."""
    k, v = expand_groups(k, q.shape[1]), expand_groups(v.to(q.dtype), q.shape[1])  # q, k: rotated in float32
    with torch.autocast(q.device.type, enabled=False):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)
