"""What each algorithm makes of a batch of graded responses: rewards, the prompts kept, advantages.

GAPG, group-adaptive policy gradient (arXiv 2509.24050):
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

import torch
from torch import Tensor

from edgekit.train.advantage import group_advantages
from edgekit.train.config import TrainConfig
from edgekit.train.prompt_filter import KeptPrompts, filter_prompts
from edgekit.train.reward import Outcome, RewardScale


@dataclass(frozen=True)
class Plan:
    """What a batch of P prompts with G responses each teaches.

    rewards, advantages: (P, G) float32. ``kept``: the prompts that update the policy. The update follows
    sum over kept prompts and their responses of advantage * grad log pi(y | x), divided by their number.
    """

    rewards: Tensor
    advantages: Tensor
    kept: KeptPrompts


def plan_gapg(
    config: TrainConfig, outcomes: Sequence[Sequence[Outcome]], cloud_correct: Sequence[bool], *, seed: int
) -> Plan:
    """GAPG's rewards, filter and advantages; ``outcomes`` (P, G), ``cloud_correct`` (P,)."""
    scale = RewardScale(config.alpha_a, config.alpha_c, config.alpha_f)
    rewards = torch.tensor(
        [[scale.reward(o, c) for o in group] for group, c in zip(outcomes, cloud_correct, strict=True)]
    )
    solved = [any(outcome.correct for outcome in group) for group in outcomes]
    kept = filter_prompts(solved, cloud_correct, config.call_fraction, seed=seed)
    return Plan(rewards, group_advantages(rewards), kept)
