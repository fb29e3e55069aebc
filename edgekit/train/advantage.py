"""Group-level advantages: the estimator unbiased over all groups, and those of Dr.GRPO and GRPO it is compared with."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Estimator = Literal["unbiased", "dr_grpo", "grpo"]
DEVIATION_FLOOR = 1e-4
"""Added to a group's standard deviation before dividing by it."""


def group_advantages(rewards: Tensor) -> Tensor:
    """Advantages (P, G) of rewards (P, G): (r_i - mean of the group) / (G - 1).

    The factor 1/(G-1) of the group's policy gradient is folded in here, so the loss *sums* over the
    group. With 1/G the expectation is (G-1)/G of the true gradient, because the mean contains r_i. That holds
    over all groups; over those that a filter selects by these very samples it does not (:mod:`prompt_filter`).
    There is no division by the standard deviation and none by the response's length. G must be at least 2.
    """
    return _centred(rewards) / (rewards.shape[-1] - 1)


def dr_grpo_advantages(rewards: Tensor) -> Tensor:
    """Dr.GRPO's (arXiv 2503.20783): (r_i - mean) / G, the group's mean of advantages without deviation or length."""
    return _centred(rewards) / rewards.shape[-1]


def grpo_advantages(rewards: Tensor, lengths: Tensor) -> Tensor:
    """GRPO's (arXiv 2402.03300): (r_i - mean) / (std + 1e-4) / |y_i| / G; ``lengths`` (P, G) in tokens.

    Dividing by the length and the group's size makes the loss's sums the means over tokens and responses that
    GRPO takes. The standard deviation is the sample's (G - 1). One on-policy update has no ratio to clip, and
    there is no KL term.
    """
    deviation = rewards.std(dim=-1, keepdim=True)
    return _centred(rewards) / (deviation + DEVIATION_FLOOR) / lengths / rewards.shape[-1]


def advantages_by(estimator: Estimator, rewards: Tensor, lengths: Tensor) -> Tensor:
    """The advantages (P, G) that ``estimator`` gives ``rewards`` (P, G) of responses of ``lengths`` (P, G) tokens."""
    if estimator == "grpo":
        return grpo_advantages(rewards, lengths)
    return dr_grpo_advantages(rewards) if estimator == "dr_grpo" else group_advantages(rewards)


def _centred(rewards: Tensor) -> Tensor:
    """Rewards minus their group's mean; exactly zero where all are equal, whatever the mean was rounded to."""
    equal = rewards.amax(dim=-1, keepdim=True) == rewards.amin(dim=-1, keepdim=True)
    return (rewards - rewards.mean(dim=-1, keepdim=True)).masked_fill(equal, 0.0)
