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


def product_dtype(x: Tensor) -> torch.dtype:
    """The type in which attention multiplies what comes in ``x``'s: autocast's, but on a CPU ``x``'s own.

    A CPU's bfloat16 backward pass is ten times slower.
    """
    kind = x.device.type
    return x.dtype if kind == "cpu" or not torch.is_autocast_enabled(kind) else torch.get_autocast_dtype(kind)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
    """Grouped-query attention in :func:`product_dtype` of q, kept out of autocast."""
    dtype = product_dtype(q)
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)  # q, k: rotated in float32
    with torch.autocast(q.device.type, enabled=False):
        if q.device.type == "cpu":
            k, v = expand_groups(k, q.shape[1]), expand_groups(v, q.shape[1])
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)
        return shared_keys_attention(q, k, v, mask, is_causal=is_causal)


def shared_keys_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False
) -> Tensor:
    """The same without a copy of keys and values for each head.

    Fused kernels that know groups take no mask. With one, the heads of a group stand where further queries would.
    """
    if mask is None or q.shape[1] == k.shape[1]:
        grouped = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=grouped)
    queries = q.shape[2]
    heads = q.shape[1] // k.shape[1]
    if mask.shape[-2] > 1:  # (..., T, S) -> (..., heads * T, S)
        mask = mask.unsqueeze(-3).expand(*mask.shape[:-2], heads, *mask.shape[-2:]).flatten(-3, -2)
    context = F.scaled_dot_product_attention(q.unflatten(1, (-1, heads)).flatten(2, 3), k, v, attn_mask=mask)
    return context.unflatten(2, (heads, queries)).flatten(1, 2)
