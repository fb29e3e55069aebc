"""The one edge decoder: the policy's blocks over a static KV cache, as torch.export can capture it.

Stateful: the cache lives in buffers the program mutates. Stateless: the cache goes in and comes out.
How a layer writes its cache and attends to it is a plug, :class:`CachedAttention`, so that each target
gets the operators it runs best; everything around it is the policy's own code.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.policy.model import Attend, ModelConfig, PolicyModel, expand_groups

Caches = list[tuple[Tensor, Tensor]]
"""(keys, values) of each layer."""


class CachedAttention(Protocol):
    """Where a target keeps keys and values, and how it attends to them."""

    def cache_shape(self, config: ModelConfig, slots: int) -> tuple[int, ...]:
        """Shape of one layer's keys, and of its values."""

    def attend(self, caches: Caches, position: Tensor, positions: Tensor) -> Attend:
        """The attention of one call: it mutates ``caches``, whose next free slot is ``position`` (1,).

        ``positions`` (T,) are those of the call's tokens.
        """


class MaskedAttention:
    """Plain operators: a cache (1, K, S, D), written by index, read whole under a mask."""

    def cache_shape(self, config: ModelConfig, slots: int) -> tuple[int, ...]:
        return (1, config.num_key_value_heads, slots, config.head_dim)

    def attend(self, caches: Caches, position: Tensor, positions: Tensor) -> Attend:
        slots = torch.arange(caches[0][0].shape[2], dtype=positions.dtype)
        mask = slots[None, :] <= positions[:, None]  # (T, S)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys = write_cache(caches[layer][0], k, positions)
            values = write_cache(caches[layer][1], v, positions)
            keys, values = expand_groups(keys, q.shape[1]), expand_groups(values, q.shape[1])
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)

        return attend


def write_cache(cache: Tensor, new: Tensor, positions: Tensor) -> Tensor:
    """Write new (1, K, T, D) at positions (T,) of cache (1, K, S, D), in place; returns the cache."""
    cache[:, :, positions] = new
    return cache


class EdgeDecoder(nn.Module):
    """forward(token_ids (1, T), position (1,)) -> logits (1, vocab) of the last token.

    ``position`` is where the first of the T tokens goes; token_ids and position are int64 or int32.
    """

    def __init__(self, model: PolicyModel, context_length: int, attention: CachedAttention | None = None) -> None:
        super().__init__()
        self.policy = model
        self.attention = attention or MaskedAttention()
        shape = self.attention.cache_shape(model.config, context_length)
        self.layers = model.config.num_hidden_layers
        for layer in range(self.layers):
            self.register_buffer(f"key_{layer}", torch.zeros(shape))
            self.register_buffer(f"value_{layer}", torch.zeros(shape))

    def forward(self, token_ids: Tensor, position: Tensor) -> Tensor:
        caches = [(getattr(self, f"key_{n}"), getattr(self, f"value_{n}")) for n in range(self.layers)]
        return self.run(token_ids, position, caches)

    def run(self, token_ids: Tensor, position: Tensor, caches: Caches) -> Tensor:
        """The decoder over the given caches, one (key, value) pair per layer, each mutated."""
        positions = position + torch.arange(token_ids.shape[1], dtype=position.dtype)  # (T,)
        attend = self.attention.attend(caches, position, positions)
        hidden = self.policy.hidden(token_ids, positions, attend)
        return self.policy.lm_head(hidden[:, -1])


class StatelessEdgeDecoder(nn.Module):
    """forward(token_ids, position, key_0, value_0, ...) -> (logits, key_0, value_0, ...): the cache as arguments."""

    def __init__(self, decoder: EdgeDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, token_ids: Tensor, position: Tensor, caches: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        fresh = [cache.clone() for cache in caches]
        pairs = list(zip(fresh[0::2], fresh[1::2], strict=True))
        return (self.decoder.run(token_ids, position, pairs), *fresh)
