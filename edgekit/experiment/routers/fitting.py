"""What every fitted router shares: labels, a held-out part, and the training of a classifier that stops by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.errors import EdgekitError
from edgekit.experiment.attempts import Attempts
from edgekit.experiment.routers.forward import batches
from edgekit.warm_start.supervised import optimize

HELD_OUT_SHARE = 0.2
FEWEST_ATTEMPTS = 10

Logits = Callable[[list[int]], Tensor]
"""Numbers of some attempts (n) -> log-odds (n,) that their answers are wrong."""


@dataclass(frozen=True)
class FitSettings:
    """Length and pace of a classifier's training. Of its epochs the best on the held-out part is kept."""

    epochs: int
    learning_rate: float
    batch_size: int = 64
    patience: int = 2
    warm_up_steps: int = 20


def hold_out(attempts: Attempts, seed: int) -> tuple[list[int], list[int]]:
    """Disjoint row numbers (to fit on, held out). Raises :class:`EdgekitError` for too few attempts."""
    if len(attempts) < FEWEST_ATTEMPTS:
        raise EdgekitError(
            f"too few attempts: {len(attempts)}. A router is fitted to at least {FEWEST_ATTEMPTS}. Give it more."
        )
    order = torch.randperm(len(attempts), generator=torch.Generator().manual_seed(seed)).tolist()
    held = round(HELD_OUT_SHARE * len(order))
    return order[held:], order[:held]


def wrong(attempts: Attempts) -> Tensor:
    """1.0 where the policy's own answer is wrong, else 0.0: (n,) float32."""
    return torch.tensor([float(not correct) for correct in attempts.correct])


def train_classifier(
    model: nn.Module, logits: Logits, lengths: Sequence[int], train: Attempts, settings: FitSettings, seed: int
) -> None:
    """Fit ``model``, which ``logits`` runs on rows of ``lengths`` tokens, by log loss; leaves it evaluating.

    Memory is bounded whatever the batch: its gradient is added up over groups of rows of like length. Raises
    :class:`EdgekitError` for too few attempts, or if the held-out loss is never a number.
    """
    rows, held = hold_out(train, seed)
    labels = wrong(train)
    shuffle = torch.Generator().manual_seed(seed)
    steps_per_epoch = math.ceil(len(rows) / settings.batch_size)

    def drawn() -> Iterator[list[int]]:
        for _ in range(settings.epochs):
            shuffled = [rows[index] for index in torch.randperm(len(rows), generator=shuffle).tolist()]
            for begin in range(0, len(rows), settings.batch_size):
                yield shuffled[begin : begin + settings.batch_size]

    def backward(batch: list[int]) -> float:
        total = 0.0
        for part in batches([lengths[row] for row in batch]):
            chosen = [batch[index] for index in part]
            found = logits(chosen).float()
            loss = F.binary_cross_entropy_with_logits(found, labels[chosen].to(found.device), reduction="sum")
            torch.autograd.backward(loss / len(batch))
            total += loss.item()
        return total / len(batch)

    steps, rate, warm_up = settings.epochs * steps_per_epoch, settings.learning_rate, settings.warm_up_steps
    losses = optimize(model, drawn(), backward, steps, rate, warm_up_steps=warm_up, fused=False)
    best, kept, since = math.inf, None, 0
    for step, _ in losses:
        if step % steps_per_epoch:
            continue
        model.eval()
        found = log_odds(logits, lengths, held)
        held_loss = F.binary_cross_entropy_with_logits(found, labels[held]).item()
        model.train()
        since += 1
        if held_loss < best:
            best, kept, since = held_loss, _trained(model), 0
        if since == settings.patience:
            break
    if kept is None:
        raise EdgekitError("router did not learn: its held-out loss is not a number. Lower its learning rate.")
    model.load_state_dict(kept, strict=False)
    model.eval()


@torch.inference_mode()
def log_odds(logits: Logits, lengths: Sequence[int], rows: Sequence[int]) -> Tensor:
    """What ``logits`` says of ``rows``, in their order, run in groups of bounded size: (n,) float32 on the CPU."""
    found = torch.empty(len(rows))
    for part in batches([lengths[row] for row in rows]):
        found[part] = logits([rows[index] for index in part]).float().cpu()
    return found


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters() if tensor.requires_grad}
