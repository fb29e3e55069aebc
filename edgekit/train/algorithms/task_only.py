"""Task-only tuning: the policy's own right answers, no cloud.

A call is a wrong answer. The marker is not forbidden, so the estimator stays exact, and it dies out within steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from edgekit.train.advantage import group_advantages
from edgekit.train.algorithms.base import Algorithm, Outcomes
from edgekit.train.reward import Outcome


@dataclass
class TaskOnly(Algorithm):
    """It has no settings of its own."""

    def reward(self, outcome: Outcome, cloud_correct: bool) -> float:
        """1 for the policy's own right answer."""
        return float(outcome.correct)

    def advantages(self, rewards: Tensor, outcomes: Outcomes) -> Tensor:
        """(r - mean) / (G - 1)."""
        return group_advantages(rewards)

    def needs_cloud(self, group: Sequence[Outcome]) -> bool:
        """Never."""
        return False
