"""The prompt router and the answer router: a classifier that begins as the policy's own first blocks.

It is a network of its own. Frozen embedding, first blocks and final norm are copies; the blocks are trained
further, and a linear head reads the mean and the last of the final states. Starting from random blocks
instead, it would have to learn the task's language from a few thousand labels, and is weaker.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.experiment.attempts import Attempts
from edgekit.experiment.routers.base import Scorer
from edgekit.experiment.routers.fitting import FitSettings, Logits, log_odds, train_classifier
from edgekit.experiment.routers.forward import prompts, sequences
from edgekit.policy.attention import causal
from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel
from edgekit.policy.padding import pad_left

BLOCKS = 4
"""How many of the policy's blocks are copied, if it has so many."""
SETTINGS = FitSettings(epochs=6, learning_rate=5e-4)


def fit_prompt_router(policy: Policy, train: Attempts, *, seed: int) -> Scorer:
    """Score = log-odds of a wrong answer, from the prompt alone."""
    return _fit(policy, train, lambda attempts: prompts(policy, attempts), seed)


def fit_answer_router(policy: Policy, train: Attempts, *, seed: int) -> Scorer:
    """Score = log-odds of a wrong answer, from the prompt and the finished response."""
    return _fit(policy, train, lambda attempts: sequences(policy, attempts).ids, seed)


class Classifier(nn.Module):
    """Left-padded token ids (B, T) in, log-odds (B,) out."""

    table: Tensor

    def __init__(self, policy: PolicyModel, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.blocks = deepcopy(policy.model.layers[:blocks]).requires_grad_(True)
        self.norm = deepcopy(policy.model.norm).requires_grad_(True)
        size, device = policy.config.hidden_size, policy.lm_head.weight.device
        self.weights = nn.Parameter(torch.zeros(2 * size, device=device))
        self.bias = nn.Parameter(torch.zeros((), device=device))
        self.register_buffer("table", policy.embed(torch.arange(policy.config.vocab_size, device=device)).detach())
        self.rotations = policy.rotations

    def forward(self, token_ids: Tensor, padding: Tensor) -> Tensor:
        positions, attend = causal(token_ids, padding)
        rotations = self.rotations(positions)
        x = F.embedding(token_ids, self.table)
        for block in self.blocks:
            x = block(x, rotations, attend)
        x = self.norm(x)
        index = torch.arange(token_ids.shape[1], device=token_ids.device)
        real = (index[None, :] >= padding[:, None]).unsqueeze(-1).to(x.dtype)  # (B, T, 1)
        mean = (x * real).sum(1) / real.sum(1)
        return torch.cat([mean, x[:, -1]], dim=-1) @ self.weights + self.bias


def _fit(policy: Policy, train: Attempts, read: Callable[[Attempts], list[list[int]]], seed: int) -> Scorer:
    model = Classifier(policy.model)

    def logits_of(ids: list[list[int]]) -> Logits:
        return lambda rows: model(*pad_left([ids[row] for row in rows], model.table.device))

    ids = read(train)
    train_classifier(model, logits_of(ids), [len(row) for row in ids], train, SETTINGS, seed)

    def score(attempts: Attempts) -> list[float]:
        fresh = read(attempts)
        return log_odds(logits_of(fresh), [len(row) for row in fresh], range(len(fresh))).tolist()

    return score
