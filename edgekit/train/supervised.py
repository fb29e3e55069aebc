"""Supervised fitting of a policy to given sequences, some of whose tokens are learned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from edgekit.policy.model import PolicyModel, causal

WARM_UP_STEPS = 40


@dataclass(frozen=True)
class Example:
    """Token ids, and for each 1 if it is learned, else 0."""

    ids: tuple[int, ...]
    learned: tuple[int, ...]


def fit(
    model: PolicyModel,
    batches: Iterable[Sequence[Example]],
    steps: int,
    learning_rate: float,
    *,
    chunks: int = 4,
    bfloat16: bool = False,
) -> Iterator[float]:
    """AdamW with warm-up and cosine decay over ``batches``; yields each step's loss.

    A batch goes through the model in ``chunks`` of similar length. ``bfloat16`` multiplies in that type;
    the weights stay float32.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    for index, batch in enumerate(batches):
        pace = min(1.0, (index + 1) / WARM_UP_STEPS) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * index / steps)))
        optimizer.param_groups[0]["lr"] = learning_rate * pace
        optimizer.zero_grad(set_to_none=True)
        loss = _backward(model, batch, chunks, bfloat16)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss


def _backward(model: PolicyModel, batch: Sequence[Example], chunks: int, bfloat16: bool) -> float:
    """Accumulate the batch's gradient in chunks of similar length; returns the loss per learned token."""
    rows = sorted(batch, key=lambda row: len(row.ids))
    total = sum(sum(row.learned) for row in rows)
    loss = 0.0
    size = -(-len(rows) // chunks)
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        width = max(len(row.ids) for row in part)
        ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in part])
        learned = torch.tensor([[*row.learned, *[0] * (width - len(row.learned))] for row in part])[:, 1:].bool()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            hidden = model.hidden(ids[:, :-1], *causal(ids[:, :-1], None))
            logits = model.lm_head(hidden[learned])
        part_loss = F.cross_entropy(logits.float(), ids[:, 1:][learned], reduction="sum") / total
        torch.autograd.backward(part_loss)
        loss += part_loss.item()
    return loss
