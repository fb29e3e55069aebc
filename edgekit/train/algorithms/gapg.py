"""GAPG, group-adaptive policy gradient (arXiv 2509.24050).

Kept from GRPO:    G responses to each prompt; the group's mean reward as baseline; no value network.
Dropped from GRPO: division by the group's standard deviation, by the response's length, the clipped
                   importance ratio (every batch is used for exactly one on-policy update), the KL term
                   and the reference model.
Added by GAPG:     the factor 1/(G-1), which makes the estimator unbiased; the hierarchical reward; and
                   prompt filtering, which keeps the budget for asking in the training mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from edgekit.train.advantage import Estimator, advantages_by
from edgekit.train.algorithms.base import Hierarchical, Outcomes, lengths
from edgekit.train.prompt_filter import KeptPrompts, filter_prompts, keep_all
from edgekit.train.reward import Outcome


@dataclass
class Gapg(Hierarchical):
    """``estimator`` other than "unbiased", and ``prompt_filter`` false, are ablations."""

    call_fraction: float
    estimator: Estimator
    prompt_filter: bool

    def advantages(self, rewards: Tensor, outcomes: Outcomes) -> Tensor:
        """(r - mean) / (G - 1), unless an ablation."""
        return advantages_by(self.estimator, rewards, lengths(outcomes))

    def keep(self, solved: Sequence[bool], cloud_correct: Sequence[bool], *, seed: int) -> KeptPrompts:
        """D1 and at most rho |D1| of D2."""
        if not self.prompt_filter:
            return keep_all(solved, cloud_correct)
        return filter_prompts(solved, cloud_correct, self.call_fraction, seed=seed)

    def needs_cloud(self, group: Sequence[Outcome]) -> bool:
        """Where someone called; and the filter looks at prompts nobody solved too."""
        unsolved = not any(outcome.correct for outcome in group)
        return super().needs_cloud(group) or (self.prompt_filter and unsolved)
