"""The edge decoder: the policy's blocks over a static KV cache in buffers, as torch.export can capture it.

How a layer writes its cache and attends to it is a plug, :class:`CachedAttention`, so that a target gets the
operators it runs best; everything around it is the policy's own code. ExecuTorch is lowered from it; ONNX and
Core ML write their graphs from the same modules without a capture.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from edgekit.policy.attention import Attend
from edgekit.policy.model import PolicyModel
from edgekit.policy.traits import ModelConfig

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


class EdgeDecoder(nn.Module):
    """forward(token_ids (1, T), position (1,)) -> logits (1, vocab) of the last token.

    ``position`` is where the first of the T tokens goes; token_ids and position are int64 or int32.
    """

    def __init__(self, model: PolicyModel, context_length: int, attention: CachedAttention) -> None:
        super().__init__()
        self.policy = model
        self.attention = attention
        shape = self.attention.cache_shape(model.config, context_length)
        self.layers = model.config.num_hidden_layers
        for layer in range(self.layers):
            self.register_buffer(f"key_{layer}", torch.zeros(shape))
            self.register_buffer(f"value_{layer}", torch.zeros(shape))

    def forward(self, token_ids: Tensor, position: Tensor) -> Tensor:
        caches = [(getattr(self, f"key_{n}"), getattr(self, f"value_{n}")) for n in range(self.layers)]
        positions = position + torch.arange(token_ids.shape[1], dtype=position.dtype)  # (T,)
        attend = self.attention.attend(caches, position, positions)
        hidden = self.policy.hidden(token_ids, positions, attend)
        return self.policy.lm_head(hidden[:, -1])
