"""Supervised fitting of a policy to given sequences, some of whose tokens are learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.free_memory import FreeMemory
from edgekit.policy.attention import causal
from edgekit.policy.model import PolicyModel
from edgekit.policy.padding import pad_right
from edgekit.quantize.grid import GridWeights
from edgekit.warm_start.work import EVERY, Checkpoints

Batch = TypeVar("Batch")
ROWS = 8
"""Examples that go through the model at a time."""


@dataclass(frozen=True)
class Example:
    """Token ids, and for each 1 if it is learned, else 0 (as the first always is)."""

    ids: tuple[int, ...]
    learned: tuple[int, ...]

    @classmethod
    def of(cls, prompt: Sequence[int], response: Sequence[int]) -> Example:
        """``prompt``, and the ``response`` to it, which is learned."""
        return cls((*prompt, *response), (0,) * len(prompt) + (1,) * len(response))


def fit(
    model: PolicyModel,
    batches: Iterable[Sequence[Example]],
    steps: int,
    learning_rate: float,
    checkpoints: Checkpoints | None = None,
    grid: GridWeights | None = None,
    *,
    warm_up_steps: int = 20,
) -> Iterator[tuple[int, float]]:
    """Fit ``model`` to ``batches``; yields (steps done, the step's loss per learned token).

    Products are taken in bfloat16; the weights stay float32. With ``grid``, which ``model`` is on, the floats behind
    it are fitted.
    """

    def backward(batch: Sequence[Example]) -> float:
        learned = sum(sum(example.learned) for example in batch)
        loss = 0.0
        for rows in _alike(batch):
            with torch.autocast(model.cos.device.type, torch.bfloat16):
                logits, targets = learned_logits(model, rows)
            part = F.cross_entropy(logits.float(), targets, reduction="sum") / learned
            torch.autograd.backward(part)
            loss += part.item()
        return loss

    return optimize(
        model if grid is None else grid.latent,
        batches,
        backward,
        steps,
        learning_rate,
        warm_up_steps=warm_up_steps,
        fused=True,
        checkpoints=checkpoints,
        refresh=None if grid is None else grid.round,
    )


def optimize(
    model: nn.Module,
    batches: Iterable[Batch],
    backward: Callable[[Batch], float],
    steps: int,
    learning_rate: float,
    *,
    warm_up_steps: int,
    fused: bool,
    checkpoints: Checkpoints | None = None,
    refresh: Callable[[], None] | None = None,
) -> Iterator[tuple[int, float]]:
    """AdamW with warm-up and cosine decay over ``steps`` ``batches``; yields (steps done, the step's loss).

    ``backward`` adds a batch's gradient and returns its loss. ``fused`` updates all weights in one pass, which pays
    on large models and rounds differently. With ``checkpoints`` it goes on where it was interrupted, bit for bit,
    and passes over the batches seen before. ``refresh`` is called whenever the weights have changed.
    """
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=fused
    )
    refresh = refresh or (lambda: None)
    before = 0 if checkpoints is None else checkpoints.restore(model, optimizer)
    refresh()
    memory = FreeMemory()
    for index, batch in enumerate(islice(batches, before, None), before):
        pace = min(1.0, (index + 1) / warm_up_steps) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * index / steps)))
        optimizer.param_groups[0]["lr"] = learning_rate * pace
        optimizer.zero_grad(set_to_none=True)
        loss = backward(batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        refresh()
        memory.keep_low()
        if checkpoints is not None and ((index + 1) % EVERY == 0 or index + 1 == steps):
            checkpoints.save(index + 1, model, optimizer)
        yield index + 1, loss
    model.eval()


def learned_logits(model: PolicyModel, batch: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Logits (n, vocab) and ids (n,) of the batch's learned tokens."""
    device = model.cos.device
    # Right padding needs no mask: nothing after a sequence is read.
    ids = pad_right([example.ids for example in batch]).to(device)
    learned = pad_right([example.learned for example in batch])[:, 1:].bool().to(device)
    hidden = model.hidden(ids, *causal(ids, None))
    return model.lm_head(hidden[:, :-1][learned]), ids[:, 1:][learned]


def _alike(batch: Sequence[Example]) -> list[Sequence[Example]]:
    """``batch`` in parts of about :data:`ROWS` examples of like length, so that little is padded."""
    rows = sorted(batch, key=lambda example: len(example.ids))
    size = -(-len(rows) // max(1, round(len(rows) / ROWS)))
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]
