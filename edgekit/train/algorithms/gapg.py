"""GAPG, group-adaptive policy gradient (arXiv 2509.24050).

Kept from GRPO:    G responses to each prompt; the group's mean reward as baseline; no value network.
Dropped from GRPO: division by the group's standard deviation, by the response's length, the clipped
                   importance ratio (every batch is used for exactly one on-policy update), the KL term
                   and the reference model.
Added by GAPG:     the factor 1/(G-1), which makes the estimator of all groups unbiased; the hierarchical
                   reward; and prompt filtering, which keeps the budget for asking in the training mix and, by
                   selecting groups by their own samples, biases the estimator away from asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from edgekit.train.advantage import Estimator, advantages_by
from edgekit.train.algorithms.base import Hierarchical, Outcomes, Plan, lengths
from edgekit.train.prompt_filter import KeptPrompts, filter_prompts, keep_all
from edgekit.train.reward import Outcome


@dataclass
class Gapg(Hierarchical):
    """``estimator`` other than "unbiased", ``prompt_filter`` false and ``weigh_kept`` true are ablations."""

    call_fraction: float
    estimator: Estimator
    prompt_filter: bool
    weigh_kept: bool

    def advantages(self, rewards: Tensor, outcomes: Outcomes) -> Tensor:
        """(r - mean) / (G - 1), unless an ablation."""
        return advantages_by(self.estimator, rewards, lengths(outcomes))

    def keep(self, solved: Sequence[bool], cloud_correct: Sequence[bool], *, seed: int) -> KeptPrompts:
        """D1 and at most rho |D1| of D2."""
        if not self.prompt_filter:
            return keep_all(solved, cloud_correct)
        return filter_prompts(solved, cloud_correct, self.call_fraction, seed=seed)

    def plan(self, outcomes: Outcomes, cloud_correct: Sequence[bool], *, seed: int) -> Plan:
        """With ``weigh_kept``, what is kept of D2 stands for what was dropped of it, and the divisor is all prompts.

        The update's expectation over the filter's draw is then the one of every prompt, where any of D2 may be kept at
        all: a batch whose D1 leaves no room teaches nothing of D2 either way.
        """
        plan = super().plan(outcomes, cloud_correct, seed=seed)
        if not self.weigh_kept:
            return plan
        advantages = plan.advantages.clone()
        advantages[list(plan.kept.d2)] *= plan.kept.inverse_chance
        return replace(plan, advantages=advantages, divisor=len(outcomes))

    def needs_cloud(self, group: Sequence[Outcome]) -> bool:
        """Where someone called; and the filter looks at prompts nobody solved too."""
        unsolved = not any(outcome.correct for outcome in group)
        return super().needs_cloud(group) or (self.prompt_filter and unsolved)
