"""Capture a policy's edge decoder with torch.export, for targets that lower a captured program.

Quantized linears and embeddings stay whole in it, as ``torch.ops.edgekit.quantized_linear`` and
``quantized_embedding``; the target says how it runs them.
"""

from __future__ import annotations

import torch

from edgekit.export.decoder_graph import CachedAttention, EdgeDecoder
from edgekit.policy.model import PolicyModel

EXAMPLE_TOKENS = 3
"""Tokens in the example call of the capture; 0 and 1 would be taken for constants."""


def capture(model: PolicyModel, context_length: int, attention: CachedAttention) -> torch.export.ExportedProgram:
    """Export ``model`` over a KV cache of ``context_length`` slots, kept as ``attention`` likes it.

    Inputs: token_ids (1, T) int64, T from 1 to context_length - 1, and position (1,) int64. Output: logits
    (1, vocab) float32 of the last token. ``model`` is left in eval mode without gradients.
    """
    model.eval().requires_grad_(False)
    decoder = EdgeDecoder(model, context_length, attention).eval().requires_grad_(False)
    example = (torch.zeros(1, EXAMPLE_TOKENS, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    tokens = torch.export.Dim("tokens", min=1, max=context_length - 1)
    with torch.no_grad():
        return torch.export.export(decoder, example, dynamic_shapes=({1: tokens}, None))
