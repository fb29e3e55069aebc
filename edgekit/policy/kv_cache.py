"""The static KV cache and the two ways to go on with it: by any number of tokens, or by one a row on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekit.policy.attention import attention, visible
from edgekit.policy.model import PolicyModel
from edgekit.policy.traits import ModelConfig


class KVCache:
    """A static KV cache for left-padded batches: rows share the write position.

    keys, values: (layers, B, K, S, D) of ``dtype``; padding: (B,) int64.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (config.num_hidden_layers, batch, config.num_key_value_heads, length, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.padding = torch.zeros(batch, dtype=torch.int64, device=device)
        self.end = 0

    @property
    def length(self) -> int:
        """Positions that it has room for."""
        return self.keys.shape[3]

    def reserve(self, length: int) -> None:
        """Make room for at least ``length`` positions, doubling, so that growing costs little."""
        missing = length - self.length
        if missing > 0:
            extra = (0, 0, 0, max(missing, self.length))
            self.keys, self.values = F.pad(self.keys, extra), F.pad(self.values, extra)

    def take(self, other: KVCache, rows: Tensor, end: int) -> None:
        """Make the first rows, in place, copies of the ``rows`` (n,) int64 of ``other`` up to position ``end``."""
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for layer in range(len(mine)):  # a layer at a time bounds the memory: other may be this cache itself
                mine[layer, : len(rows), :, :end] = theirs[layer, :, :, :end].index_select(0, rows)
        self.padding[: len(rows)] = other.padding[rows]


@torch.inference_mode()
def step(model: PolicyModel, token_ids: Tensor, cache: KVCache) -> Tensor:
    """Append token_ids (B, T) to the cache; returns the last position's logits (B, vocab)."""
    start, end = cache.end, cache.end + token_ids.shape[1]
    index = torch.arange(end, device=token_ids.device)
    queries = index[start:]
    padded = bool(cache.padding.any())
    positions = (queries[None, :] - cache.padding[:, None]).clamp(min=0) if padded else queries
    real = None
    if padded:
        own = index[None, None, :] == queries[None, :, None]
        real = ((index[None, None, :] >= cache.padding[:, None, None]) | own).unsqueeze(1)  # (B, 1, T, end)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        cache.keys[layer, :, :, start:end] = k
        cache.values[layer, :, :, start:end] = v
        first = 0 if window is None else max(0, start + 1 - window)  # what the first query sees begins here
        k, v = cache.keys[layer, :, :, first:end], cache.values[layer, :, :, first:end]
        if q.shape[2] == 1:
            return _attend_one(q, k, v, None if real is None else real[..., first:])
        if real is None and start == 0 and (window is None or window >= end):
            return attention(q, k, v, is_causal=True)
        seen = visible(queries[:, None], index[first:], window)
        return attention(q, k, v, seen if real is None else seen & real[..., first:])

    hidden = model.hidden(token_ids, positions, attend)
    cache.end = end
    return model.lm_head(hidden[:, -1])


@torch.inference_mode()
def decode(
    model: PolicyModel, token_ids: Tensor, cache: KVCache, place: Tensor, span: range, *, padded: bool
) -> Tensor:
    """Put a token into each of the cache's first n rows, token_ids (n, 1), at ``place``; returns logits (n, vocab).

    ``place`` (1,) int64 is known to the device alone; it lies in ``span``, whose end is what attention reads of the
    cache, so that one captured graph serves all of it. ``padded``: whether a row has padding. All positions before
    ``place`` must have been written.
    """
    rows = len(token_ids)
    masked = padded or len(span) > 1
    index = torch.arange(span.stop, device=token_ids.device)
    padding = cache.padding[:rows, None]
    # Rows that have ended go on until they are dropped, perhaps beyond the context.
    positions = (place - padding).clamp(0, model.config.context_length - 1) if masked else place

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        keys, values = cache.keys[layer, :rows], cache.values[layer, :rows]
        keys.index_copy_(2, place, k.to(keys.dtype))
        values.index_copy_(2, place, v.to(values.dtype))
        first = 0 if window is None else max(0, span.start + 1 - window)
        seen = None
        if masked:
            seen = visible(place, index[first:], window if len(span) > 1 else None) & (index[first:] >= padding)
            seen = seen[:, None, None, :]  # (n, 1, 1, keys)
        return _attend_one(q, keys[:, :, first : span.stop], values[:, :, first : span.stop], seen)

    return model.lm_head(model.hidden(token_ids, positions, attend)[:, -1])


def _attend_one(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of single queries (B, H, 1, D); ``mask`` (B, 1, 1, S).

    All heads of a group look at the same keys: they stand where several queries would, nothing is copied.
    """
    grouped = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])
    return attention(grouped, k, v, mask).reshape(q.shape)
