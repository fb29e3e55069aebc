"""What each algorithm makes of a batch of graded responses: rewards, the prompts kept, advantages.

GAPG, group-adaptive policy gradient (arXiv 2509.24050):
Kept from GRPO:    G responses to each prompt; the group's mean reward as baseline; no value network.
Dropped from GRPO: division by the group's standard deviation, by the response's length, the clipped
                   importance ratio (every batch is used for exactly one on-policy update), the KL term
                   and the reference model.
Added by GAPG:     the factor 1/(G-1), which makes the estimator unbiased; the hierarchical reward; and
                   prompt filtering, which keeps the budget for asking in the training mix.

What it is compared with, each on the same batches and the same update:
collaboration_grpo     the hierarchical reward with GRPO's advantages; every prompt kept.
collaboration_dr_grpo  the hierarchical reward with Dr.GRPO's advantages; every prompt kept.
da_grpo                (arXiv 2602.00166) 1 for a right final answer, whoever gave it; each call costs lambda, which
                       rises while the policy calls more than ``call_fraction`` and falls while it calls less.
task_only              1 for the policy's own right answer; the cloud is never asked and a call is a wrong answer.
                       The marker is not forbidden, so the estimator stays exact, and it dies out within steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from edgekit.train.advantage import dr_grpo_advantages, group_advantages, grpo_advantages
from edgekit.train.config import Estimator, TrainConfig
from edgekit.train.prompt_filter import KeptPrompts, filter_prompts, keep_all
from edgekit.train.reward import Outcome, RewardScale

Outcomes = Sequence[Sequence[Outcome]]


@dataclass(frozen=True)
class Plan:
    """What a batch of P prompts with G responses each teaches.

    rewards, advantages: (P, G) float32. ``kept``: the prompts that update the policy. The update follows
    sum over kept prompts and their responses of advantage * grad log pi(y | x), divided by their number.
    """

    rewards: Tensor
    advantages: Tensor
    kept: KeptPrompts


@dataclass
class Algorithm:
    """``config``'s algorithm. ``token_budget``: the most tokens a response may have.

    ``call_price`` is DA-GRPO's lambda, the only state an algorithm has; zero for the others.
    """

    config: TrainConfig
    token_budget: int
    call_price: float = field(init=False)

    def __post_init__(self) -> None:
        self.call_price = self.config.first_call_price if self.config.algorithm == "da_grpo" else 0.0

    def needs_cloud(self, group: Sequence[Outcome]) -> bool:
        """Whether the plan depends on the cloud's answer to this prompt.

        It pays only where someone called, and GAPG's filter also looks at prompts nobody solved.
        """
        if self.config.algorithm == "task_only":
            return False
        unsolved = not any(outcome.correct for outcome in group)
        return any(outcome.called for outcome in group) or (unsolved and self._filters)

    def plan(self, outcomes: Outcomes, cloud_correct: Sequence[bool], *, seed: int) -> Plan:
        """Rewards, kept prompts and advantages of a batch at the present ``call_price``.

        ``outcomes`` (P, G); ``cloud_correct`` (P,), false where the cloud was not asked; ``seed`` decides which
        prompts the filter drops.
        """
        rewards = self._rewards(outcomes, cloud_correct)
        advantages = self._advantages(rewards, outcomes)
        if self.config.algorithm == "da_grpo":
            costs = torch.tensor([[float(outcome.called) for outcome in group] for group in outcomes])
            advantages = advantages - self.call_price * self._advantages(costs, outcomes)
        solved = [any(outcome.correct for outcome in group) for group in outcomes]
        if self._filters:
            kept = filter_prompts(solved, cloud_correct, self.config.call_fraction, seed=seed)
        else:
            kept = keep_all(solved, cloud_correct)
        return Plan(rewards, advantages, kept)

    def observe(self, outcomes: Outcomes) -> None:
        """Move ``call_price`` by the batch's call rate: max(0, price + rate * (call rate - call_fraction))."""
        if self.config.algorithm == "da_grpo":
            called = [outcome.called for group in outcomes for outcome in group]
            excess = sum(called) / len(called) - self.config.call_fraction
            self.call_price = max(0.0, self.call_price + self.config.call_price_rate * excess)

    @property
    def _filters(self) -> bool:
        return self.config.algorithm == "gapg" and self.config.prompt_filter

    def _rewards(self, outcomes: Outcomes, cloud_correct: Sequence[bool]) -> Tensor:
        config = self.config
        scale = RewardScale(config.alpha_a, config.alpha_c, config.alpha_f, config.alpha_e)

        def reward(outcome: Outcome, cloud: bool) -> float:
            if config.algorithm == "task_only":
                return float(outcome.correct)
            if config.algorithm == "da_grpo":
                return float(cloud if outcome.called else outcome.correct)
            return scale.reward(outcome, cloud, self.token_budget)

        return torch.tensor([[reward(o, c) for o in group] for group, c in zip(outcomes, cloud_correct, strict=True)])

    def _advantages(self, rewards: Tensor, outcomes: Outcomes) -> Tensor:
        own: dict[str, Estimator] = {"collaboration_grpo": "grpo", "collaboration_dr_grpo": "dr_grpo"}
        estimator = own.get(self.config.algorithm, self.config.estimator)
        if estimator == "grpo":
            lengths = torch.tensor([[outcome.tokens for outcome in group] for group in outcomes])
            return grpo_advantages(rewards, lengths)
        return dr_grpo_advantages(rewards) if estimator == "dr_grpo" else group_advantages(rewards)
