"""Arithmetic: splits never meet, values are exact, grading cannot be fooled."""

from __future__ import annotations

from collections import Counter

import pytest

from edgekit.errors import EdgekitError
from edgekit.tasks.arithmetic import SHARES, TASK, split_of

PROBLEM = TASK.parse("48 * 7")
assert PROBLEM is not None


@pytest.mark.parametrize("answer", ["336", " 336 "])
def test_the_value_is_right(answer: str) -> None:
    assert TASK.grade(PROBLEM, answer)


@pytest.mark.parametrize(
    "answer", [None, "", "335", "0336", "+336", "336.0", "48 * 7", "336 337", "３３６", "= 336", "-336", "3" * 400]
)
def test_anything_else_is_wrong(answer: str | None) -> None:
    assert not TASK.grade(PROBLEM, answer)


@pytest.mark.parametrize(
    ("prompt", "value", "difficulty"),
    [
        ("48*10 =", 480, "round product"),
        (" 9 * 73 ", 657, "product"),
        ("520 + 317", 837, "plain sum"),
        ("520 + 380", 900, "carrying sum"),
        ("837 - 520", 317, "plain sum"),
        ("50 - 7", 43, "carrying sum"),
        ("max(48, 912,77)", 912, "choice"),
        ("min( 5 , 3 ) =", 3, "choice"),
    ],
)
def test_prompts_are_read(prompt: str, value: int, difficulty: str) -> None:
    problem = TASK.parse(prompt)
    assert problem is not None
    assert (problem.data["value"], problem.difficulty) == (value, difficulty)
    assert TASK.grade(problem, TASK.solve(problem))
    again = TASK.parse(problem.prompt)
    assert again == problem


@pytest.mark.parametrize("prompt", ["", "5 - 7", "1 + 2 + 3", "1000 + 1", "max(3)", "3 / 2", "12 + x", "１ + 2"])
def test_other_prompts_are_not_ours(prompt: str) -> None:
    assert TASK.parse(prompt) is None


def test_swapped_operands_are_one_problem_and_swapped_differences_are_not() -> None:
    ids = {problem.id for text in ("3 + 4", "4 + 3") if (problem := TASK.parse(text)) is not None}
    assert len(ids) == 1
    first, second = TASK.parse("max(7, 3, 5)"), TASK.parse("max(5, 7, 3)")
    assert first is not None
    assert second is not None
    assert first.id == second.id


def test_splits_are_disjoint_for_any_seeds_and_mixed_as_stated() -> None:
    train, test = (TASK.problems(split, 3000, seed) for split, seed in (("train", 1), ("test", 2)))
    assert not {problem.id for problem in train} & {problem.id for problem in test}
    assert all(split_of(problem.id) == "train" for problem in train)
    assert len({problem.id for problem in train}) == 3000
    counts = Counter(problem.difficulty for problem in train)
    assert all(abs(counts[level] / 3000 - share) < 0.04 for level, share in SHARES.items())
    assert TASK.problems("test", 3000, 2) == test


def test_every_difficulty_lasts_as_long_as_a_run_needs() -> None:
    assert set(Counter(p.difficulty for p in TASK.problems("validation", 500, 0))) == set(SHARES)


def test_bad_requests_are_one_line() -> None:
    with pytest.raises(EdgekitError, match="unknown split"):
        TASK.problems("dev", 1, 0)  # type: ignore[arg-type]
    with pytest.raises(EdgekitError, match="bad problem count: 50000"):
        TASK.problems("train", 50_000, 0)
