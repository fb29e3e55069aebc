"""Attention as ExecuTorch's LLM operators do it: grouped queries inside, the cache written in place."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from edgekit.export.decoder_graph import Caches
from edgekit.policy.attention import Attend
from edgekit.policy.traits import ModelConfig

UNSEEN = -1e9
"""Added to a score, for each position that a slot lies out of sight. Finite: no softmax is undefined."""


class FusedAttention:
    """``llama::update_cache`` and ``llama::custom_sdpa`` over a cache (1, S, K, D).

    The operators must be registered (``executorch.extension.llm.custom_ops``) before a capture.
    """

    def cache_shape(self, config: ModelConfig, slots: int) -> tuple[int, ...]:
        return (1, slots, config.num_key_value_heads, config.head_dim)

    def attend(self, caches: Caches, position: Tensor, positions: Tensor) -> Attend:
        start = position[0].item()
        slots = caches[0][0].shape[1]
        torch._check(start >= 0)
        torch._check(start < slots)
        torch._check(start + positions.shape[0] <= slots)

        @cache
        def mask(window: int) -> Tensor:
            """(T, slots) float32 to add to the scores: 0 where a query sees a slot, very low for the others."""
            distance = positions[:, None] - torch.arange(slots, dtype=positions.dtype)
            beyond = (-distance).clamp(min=0) + (distance - (window - 1)).clamp(min=0)  # in whole positions
            return beyond * UNSEEN

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
            keys, values = caches[layer]
            torch.ops.llama.update_cache(k.transpose(1, 2), keys, start)
            torch.ops.llama.update_cache(v.transpose(1, 2), values, start)
            narrow = window is not None and window < slots
            how = (mask(window), 0.0, False) if narrow else (None, 0.0, True)
            return torch.ops.llama.custom_sdpa(q.transpose(1, 2), keys, values, start, *how).transpose(1, 2)

        return attend
