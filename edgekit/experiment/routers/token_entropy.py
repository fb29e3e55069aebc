"""Token entropy: how unsure the policy was, on average, of each token of its own response. Nothing is fitted."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekit.experiment.attempts import Attempts
from edgekit.experiment.routers.base import Scorer
from edgekit.experiment.routers.forward import final_states, sequences
from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel

POSITIONS_AT_ONCE = 256
"""Rows of logits alive at once: 50 MB for a vocabulary of 49,152."""


def fit_token_entropy(policy: Policy, train: Attempts, *, seed: int) -> Scorer:
    """Score = mean over the response's tokens of H = -sum_v p(v) ln p(v), in nats, of the next-token distribution.

    The marker stays in the distribution: forbidding it is the decoder's doing, not the policy's. A response
    without a token scores 0. ``train`` and ``seed`` are there for the shape of a fit and change nothing.
    """
    del train, seed
    return lambda attempts: mean_entropies(policy, attempts)


def mean_entropies(policy: Policy, attempts: Attempts) -> list[float]:
    """The mean entropy, in nats, of each attempt's tokens."""
    made = sequences(policy, attempts)
    scores = [0.0] * len(attempts)
    for row, states in final_states(policy.model, made.ids):
        # The state at a position predicts the token after it; the last one predicts nothing that was written.
        entropies = next_token_entropies(policy.model, states[made.prompt_lengths[row] - 1 : -1])
        if len(entropies):
            scores[row] = entropies.mean().item()
    return scores


@torch.inference_mode()
def next_token_entropies(model: PolicyModel, states: Tensor) -> Tensor:
    """Entropies (n,) in nats of the next-token distributions of final ``states`` (n, hidden)."""
    parts = []
    for part in states.split(POSITIONS_AT_ONCE):
        log_p = model.lm_head(part).float().log_softmax(dim=-1)
        parts.append(-(log_p.exp() * log_p).sum(dim=-1))
    return torch.cat(parts)
