"""A searched prefix raises what it is searched to raise, and a hard budget lets through what it says and no more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgekit.experiment.triggers import BURST, PLACES, Search, attack, granted, prefixed, search_trigger
from edgekit.policy.checkpoint import load_policy
from edgekit.tasks import get_task
from edgekit.tasks.base import Problem
from edgekit.warm_start.bases import builtin_base

COUNTDOWN = get_task("countdown")
POLICY = load_policy(builtin_base())


def digits(problems: list[Problem]) -> list[float]:
    """A method that calls for the more digits there are."""
    return [float(sum(map(str.isdigit, problem.prompt))) for problem in problems]


def test_the_search_finds_what_raises_the_score_and_grades_the_same_problems() -> None:
    problems = COUNTDOWN.problems("validation", 6, 0)
    found = search_trigger(POLICY, problems, digits, 1e9, Search(tries=60, seed=0))
    assert sum(map(str.isdigit, found)) >= PLACES
    assert found == search_trigger(POLICY, problems, digits, 1e9, Search(tries=60, seed=0))
    after = prefixed(problems, found)
    assert [one.prompt for one in after] == [f"{found} {one.prompt}" for one in problems]
    assert [one.data for one in after] == [one.data for one in problems]


def test_an_attack_raises_calls_and_takes_the_honest_ones_where_the_budget_is_hard() -> None:
    problems, test = COUNTDOWN.problems("train", 6, 0), COUNTDOWN.problems("test", 40, 0)
    scores = digits(test)
    threshold = sorted(scores)[len(scores) * 7 // 10] - 0.5
    made = attack(
        POLICY, problems, test, digits, scores, {0.3: threshold}, [False] * 40, [True] * 40, Search(tries=60, seed=1)
    )
    (budget,) = made["budgets"]
    assert budget["calls_before"] < budget["calls_after"] == 1.0
    assert budget["honest_after"] < budget["honest_before"] <= budget["calls_before"]


@given(st.lists(st.booleans(), max_size=120), st.floats(0.01, 0.99))
def test_a_hard_budget_never_lets_more_through_than_it_holds(calls: list[bool], fraction: float) -> None:
    through = granted(calls, fraction)
    assert all(call or not passed for call, passed in zip(calls, through, strict=True))
    for begin in range(len(through)):
        for end in range(begin + 1, len(through) + 1):
            held = max(1.0, fraction * BURST) + fraction * (end - begin)
            assert sum(through[begin:end]) <= held + 1e-9
