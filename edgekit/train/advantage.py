"""Group-level advantages, unbiased although the baseline contains the sample itself."""

from __future__ import annotations

from torch import Tensor


def group_advantages(rewards: Tensor) -> Tensor:
    """Advantages (P, G) of rewards (P, G): (r_i - mean of the group) / (G - 1).

    The factor 1/(G-1) of the group's policy gradient is folded in here, so the loss *sums* over the
    group. With 1/G the expectation is (G-1)/G of the true gradient, because the mean contains r_i.
    There is no division by the standard deviation and none by the response's length. G must be at least 2.
    """
    group_size = rewards.shape[-1]
    return (rewards - rewards.mean(dim=-1, keepdim=True)) / (group_size - 1)
