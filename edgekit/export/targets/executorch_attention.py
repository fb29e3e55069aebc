"""Attention as ExecuTorch's LLM operators do it: grouped queries inside, the cache written in place."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.export.decoder_graph import Caches
from edgekit.policy.model import Attend, ModelConfig


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

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = caches[layer]
            torch.ops.llama.update_cache(k.transpose(1, 2), keys, start)
            torch.ops.llama.update_cache(v.transpose(1, 2), values, start)
            context = torch.ops.llama.custom_sdpa(q.transpose(1, 2), keys, values, start, None, 0.0, True)
            return context.transpose(1, 2)

        return attend
