"""Collaboration-aware tuning: the hierarchical reward with GRPO's or Dr.GRPO's advantages, every prompt kept."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from edgekit.train.advantage import dr_grpo_advantages, grpo_advantages
from edgekit.train.algorithms.base import Hierarchical, Outcomes, lengths


@dataclass
class CollaborationGrpo(Hierarchical):
    """With GRPO's: divided by the group's deviation and each response's length."""

    def advantages(self, rewards: Tensor, outcomes: Outcomes) -> Tensor:
        """(r - mean) / (std + 1e-4) / tokens / G."""
        return grpo_advantages(rewards, lengths(outcomes))


@dataclass
class CollaborationDrGrpo(Hierarchical):
    """With Dr.GRPO's."""

    def advantages(self, rewards: Tensor, outcomes: Outcomes) -> Tensor:
        """(r - mean) / G."""
        return dr_grpo_advantages(rewards)
