"""Supervised fitting of a policy to given sequences, some of whose tokens are learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.policy.model import PolicyModel, attention

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Example:
    """Token ids, and for each 1 if it is learned, else 0 (as the first always is)."""

    ids: tuple[int, ...]
    learned: tuple[int, ...]


def fit(model: PolicyModel, batches: Iterable[Sequence[Example]], steps: int, learning_rate: float) -> Iterator[float]:
    """Fit ``model`` to ``batches``; yields each step's loss per learned token.

    Products are taken in bfloat16; the weights stay float32.
    """

    def backward(batch: Sequence[Example]) -> float:
        with torch.autocast(model.cos.device.type, torch.bfloat16):
            logits, targets = learned_logits(model, batch)
        loss = F.cross_entropy(logits.float(), targets)
        torch.autograd.backward(loss)
        return loss.item()

    yield from optimize(model, batches, backward, steps, learning_rate, warm_up_steps=20, fused=True)


def optimize(
    model: nn.Module,
    batches: Iterable[Batch],
    backward: Callable[[Batch], float],
    steps: int,
    learning_rate: float,
    *,
    warm_up_steps: int,
    fused: bool,
) -> Iterator[float]:
    """AdamW with warm-up and cosine decay; ``backward`` adds a batch's gradient and returns its loss, which is yielded.

    ``fused`` updates all weights in one pass, which pays on large models and rounds differently.
    """
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=fused
    )
    for index, batch in enumerate(batches):
        pace = min(1.0, (index + 1) / warm_up_steps) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * index / steps)))
        optimizer.param_groups[0]["lr"] = learning_rate * pace
        optimizer.zero_grad(set_to_none=True)
        loss = backward(batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss
    model.eval()


def learned_logits(model: PolicyModel, batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Logits (n, vocab) and ids (n,) of the batch's learned tokens.

    The examples stand one after another in a single row and each sees only itself, so that none is padded.
    """
    device = model.cos.device
    ids = torch.tensor([token for example in batch for token in example.ids], device=device)
    learned = torch.tensor([flag for example in batch for flag in example.learned], device=device).bool()
    lengths = torch.tensor([len(example.ids) for example in batch], device=device)
    owner = torch.arange(len(batch), device=device).repeat_interleave(lengths)
    index = torch.arange(len(ids), device=device)
    positions = index - (lengths.cumsum(0) - lengths)[owner]
    mask = (owner[:, None] == owner[None, :]) & (index[None, :] <= index[:, None])

    def attend(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, mask)

    hidden = model.hidden(ids[None], positions[None], attend)[0]
    # A token is predicted where the one before it stands; an example's first is never learned.
    where = learned.nonzero()[:, 0]
    return model.lm_head(hidden[where - 1]), ids[where]
