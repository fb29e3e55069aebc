"""Hidden-state probe: a linear reading of what the policy's own activations say about its success.

Depths half-way, three quarters of the way and at the end of the network compete: the held-out part
chooses the depth together with the penalty, and the probe is then fitted again to everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekit.experiment.attempts import Attempts
from edgekit.experiment.routers.base import Scorer
from edgekit.experiment.routers.fitting import hold_out, wrong
from edgekit.experiment.routers.forward import last_token_states, prompts, sequences
from edgekit.policy.checkpoint import Policy

DEPTH_SHARES = (0.5, 0.75, 1.0)
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Half the squared weight of a standardized feature costs this much beside the mean log loss."""
ITERATIONS = 100


def fit_hidden_probe(policy: Policy, train: Attempts, *, seed: int) -> Scorer:
    """Score = log-odds of a wrong answer, from the state after the response's last token.

    No later state exists, and this one has read the whole attempt.
    """
    return _fit(policy, train, lambda attempts: sequences(policy, attempts).ids, seed)


def fit_hidden_probe_prompt(policy: Policy, train: Attempts, *, seed: int) -> Scorer:
    """The same from the state after the prompt's last token, before anything is generated."""
    return _fit(policy, train, lambda attempts: prompts(policy, attempts), seed)


@dataclass(frozen=True)
class Probe:
    """log-odds = standardized features @ weights + bias. All float64; features (n, d)."""

    mean: Tensor
    spread: Tensor
    weights: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Log-odds (n,)."""
        return ((features.double() - self.mean) / self.spread) @ self.weights + self.bias


def logistic_regression(features: Tensor, labels: Tensor, penalty: float) -> Probe:
    """Minimize the mean log loss of ``labels`` (n,) in {0, 1} plus penalty / 2 * |weights|^2, by L-BFGS."""
    x = features.double()
    mean, spread = x.mean(0), x.std(0).clamp(min=1e-6)
    x, y = (x - mean) / spread, labels.double()
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([weights, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ weights + bias, y) + penalty / 2 * weights.square().sum()
        torch.autograd.backward(value)
        return value

    search.step(loss)
    return Probe(mean, spread, weights.detach(), bias.detach())


def _fit(policy: Policy, train: Attempts, read: Callable[[Attempts], list[list[int]]], seed: int) -> Scorer:
    rows, held = hold_out(train, seed)
    layers = policy.model.config.num_hidden_layers
    depths = sorted({math.ceil(share * layers) for share in DEPTH_SHARES})
    features, labels = last_token_states(policy.model, read(train), depths), wrong(train)

    def held_out_loss(choice: tuple[int, float]) -> float:
        depth, penalty = choice
        probe = logistic_regression(features[depth][rows], labels[rows], penalty)
        return F.binary_cross_entropy_with_logits(probe(features[depth][held]), labels[held].double()).item()

    depth, penalty = min(((depth, penalty) for depth in depths for penalty in PENALTIES), key=held_out_loss)
    probe = logistic_regression(features[depth], labels, penalty)
    return lambda attempts: probe(last_token_states(policy.model, read(attempts), [depth])[depth]).tolist()
