"""DA-GRPO (arXiv 2602.00166): one for a right final answer, whoever gave it, and a price for each call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgekit.train.advantage import Estimator, advantages_by
from edgekit.train.algorithms.base import Algorithm, Outcomes, lengths
from edgekit.train.reward import Outcome


@dataclass
class DaGrpo(Algorithm):
    """The price rises while the policy calls more than ``call_fraction`` and falls while it calls less."""

    call_fraction: float
    estimator: Estimator
    first_call_price: float
    call_price_rate: float

    def __post_init__(self) -> None:
        self.call_price = self.first_call_price

    def reward(self, outcome: Outcome, cloud_correct: bool) -> float:
        """1 if the final answer is right."""
        return float(cloud_correct if outcome.called else outcome.correct)

    def advantages(self, rewards: Tensor, outcomes: Outcomes) -> Tensor:
        """A(reward) - lambda A(called)."""
        costs = torch.tensor([[float(outcome.called) for outcome in group] for group in outcomes])
        gain, cost = (advantages_by(self.estimator, values, lengths(outcomes)) for values in (rewards, costs))
        return gain - self.call_price * cost

    def observe(self, outcomes: Outcomes) -> dict[str, Any]:
        """Move the price by the batch's call rate: max(0, price + rate * (call rate - call_fraction)).

        What is recorded is the price that the batch's plan paid.
        """
        paid = self.call_price
        called = [outcome.called for group in outcomes for outcome in group]
        excess = sum(called) / len(called) - self.call_fraction
        self.call_price = max(0.0, paid + self.call_price_rate * excess)
        return {"call_price": paid}
