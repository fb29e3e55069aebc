"""What choosing prompts by their own samples does to the gradient, by exact enumeration; and what weighing restores."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from edgekit.train.advantage import group_advantages
from edgekit.train.algorithms import Algorithm, algorithm_of
from edgekit.train.algorithms.base import Plan
from edgekit.train.config import TrainConfig
from edgekit.train.reward import Outcome

RIGHT, CALL, WRONG = range(3)
"""What a softmax over three logits can do with a prompt; the cloud knows the answer."""
OUTCOMES = [Outcome(False, True, True, 5), Outcome(True, False, False, 5), Outcome(False, False, True, 5)]
REWARDS = torch.tensor([1.0, 0.25, 0.0], dtype=torch.float64)
CHANCES = torch.tensor([0.05, 0.2, 0.75], dtype=torch.float64)
TRUE = CHANCES * (REWARDS - CHANCES @ REWARDS)
"""The gradient (3,) of the expected reward in the logits."""


def estimate(group: list[int], advantages: Tensor) -> Tensor:
    """sum_i A_i grad log pi(y_i) in the logits (3,): grad log pi(y) is the one-hot of y less the chances."""
    return advantages.double() @ (torch.eye(3, dtype=torch.float64)[group] - CHANCES)


def of_one_prompt(kept_of_d2: float) -> Tensor:
    """The expected update of a prompt whose group of 4 is kept if it holds a right answer, else with this chance."""
    total = torch.zeros(3, dtype=torch.float64)
    for drawn in itertools.product(range(3), repeat=4):
        group = list(drawn)
        chance = CHANCES[group].prod() * (1.0 if RIGHT in group else kept_of_d2)
        total += chance * estimate(group, group_advantages(REWARDS[group][None])[0])
    return total


def test_keeping_every_group_gives_the_gradient_and_dropping_some_of_d2_pulls_away_from_calling() -> None:
    torch.testing.assert_close(of_one_prompt(1.0), TRUE)
    assert float(TRUE[CALL]) == pytest.approx(0.030)
    assert float(of_one_prompt(0.6)[CALL]) == pytest.approx(0.0165, abs=1e-4)
    assert float(of_one_prompt(0.0)[CALL]) == pytest.approx(-0.004, abs=5e-4)


def every_draw(algorithm: Algorithm, groups: list[list[int]]) -> list[Plan]:
    """The batch's plans, one for each set of D2 that the filter may keep; all are equally likely."""
    outcomes = [[OUTCOMES[each] for each in group] for group in groups]
    plans: dict[tuple[int, ...], Plan] = {}
    for seed in range(100):
        plan = algorithm.plan(outcomes, [True] * len(groups), seed=seed)
        plans[plan.kept.d2] = plan
        if len(plans) == math.comb(len(plan.kept.d2_candidates), len(plan.kept.d2)):
            return list(plans.values())
    raise AssertionError("a set of D2 was never kept")


def of_a_batch(**settings: object) -> Tensor:
    """GAPG's expected update from two prompts of the kind and one that is always solved, in groups of 2.

    rho is 1, so that D1, never empty, has room for one prompt of D2 where there are two.
    """
    config = TrainConfig.model_validate({"call_fraction": 0.5, "group_size": 2, **settings})
    algorithm = algorithm_of(dict(config), 16)
    total = torch.zeros(3, dtype=torch.float64)
    for drawn in itertools.product(range(3), repeat=4):
        groups = [[RIGHT, RIGHT], list(drawn[:2]), list(drawn[2:])]
        plans = every_draw(algorithm, groups)
        for plan in plans:
            update = sum(estimate(groups[row], plan.advantages[row]) for row in plan.kept.indices)
            total += CHANCES[list(drawn)].prod() * update / plan.divisor / len(plans)
    return total


def test_weighing_what_is_kept_restores_the_gradient_of_the_mean_reward() -> None:
    whole = 2 / 3 * TRUE  # the prompt that is always solved teaches nothing
    torch.testing.assert_close(of_a_batch(prompt_filter=False, call_fraction=0.3), whole, atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(of_a_batch(weigh_kept=True), whole, atol=1e-7, rtol=1e-5)
    filtered = of_a_batch()
    # Not even another learning rate makes the filter's own the gradient.
    assert float((filtered * (filtered @ whole) / (filtered @ filtered) - whole).norm()) > 0.03 * float(whole.norm())


def test_without_room_nothing_of_d2_is_taught_weighed_or_not() -> None:
    algorithm = algorithm_of(dict(TrainConfig(weigh_kept=True)), 16)
    plan = algorithm.plan([[OUTCOMES[CALL], OUTCOMES[WRONG]]] * 3, [True] * 3, seed=0)
    assert (plan.kept.d2, plan.divisor) == ((), 3)


def test_weights_are_one_where_nothing_is_dropped() -> None:
    solved, hopeless = [OUTCOMES[RIGHT], OUTCOMES[WRONG]], [OUTCOMES[CALL], OUTCOMES[WRONG]]
    for weigh in (False, True):
        plan = algorithm_of(dict(TrainConfig(weigh_kept=weigh)), 16).plan([solved] * 3 + [hopeless], [True] * 4, seed=0)
        assert plan.kept.inverse_chance == 1
        torch.testing.assert_close(plan.advantages[3], torch.tensor([0.125, -0.125]))
