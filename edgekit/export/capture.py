"""Capture a policy's edge decoder with torch.export: the one program every target lowers.

Quantized linears stay whole in it, as ``torch.ops.edgekit.quantized_linear``; each target says how it
runs them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgekit.errors import EdgekitError
from edgekit.export.decoder_graph import CachedAttention, EdgeDecoder, StatelessEdgeDecoder
from edgekit.policy.model import PolicyModel

EXAMPLE_TOKENS = 3
"""Tokens in the example call of a dynamic capture; 0 and 1 would be taken for constants."""


def capture(
    model: PolicyModel,
    context_length: int,
    *,
    tokens: int | None,
    stateful: bool,
    attention: CachedAttention | None = None,
) -> torch.export.ExportedProgram:
    """Export ``model`` over a KV cache of ``context_length`` slots.

    Inputs: token_ids (1, T) int64, position (1,) int64 and, if not ``stateful``, the caches: a tuple of
    key_0, value_0, key_1, ... each (1, kv_heads, context_length, head_dim) float32. Outputs: logits
    (1, vocab) float32 of the last token, and the new caches if not ``stateful``. ``tokens`` fixes T;
    None leaves it dynamic, 1 to context_length - 1. ``attention`` is the target's own, and then its caches
    have the shape it likes. ``model`` is left in eval mode without gradients.

    Raises EdgekitError if the model knows fewer positions than ``context_length``.
    """
    known = model.config.max_position_embeddings
    if context_length > known:
        raise EdgekitError(
            f"context_length too long: {context_length}. The policy was trained for {known} positions. Lower it."
        )
    model.eval().requires_grad_(False)
    decoder = EdgeDecoder(model, context_length, attention).eval().requires_grad_(False)
    length = EXAMPLE_TOKENS if tokens is None else tokens
    arguments: tuple[Any, ...] = (torch.zeros(1, length, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    free = {1: torch.export.Dim("tokens", min=1, max=context_length - 1)} if tokens is None else None
    shapes: tuple[Any, ...] = (free, None)
    module: torch.nn.Module = decoder
    if not stateful:
        module = StatelessEdgeDecoder(decoder)
        caches = tuple(torch.zeros_like(buffer) for buffer in _caches(decoder))
        arguments, shapes = (*arguments, caches), (*shapes, tuple(None for _ in caches))
    with torch.no_grad():
        return torch.export.export(module, arguments, dynamic_shapes=shapes)


def _caches(decoder: EdgeDecoder) -> list[Tensor]:
    return [getattr(decoder, f"{kind}_{n}") for n in range(decoder.layers) for kind in ("key", "value")]
