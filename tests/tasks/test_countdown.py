"""Countdown: splits never meet, problems are solvable, and grading cannot be fooled."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import EdgekitError
from edgekit.policy.tokens import INTEGERS
from edgekit.tasks import get_task
from edgekit.tasks.countdown import EASY, HARD, TASK, Countdown
from edgekit.tasks.expression import expression_value

PROBLEM = TASK.problem([3, 5, 7], 22)

trees = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=8,
)


@given(trees)
def test_values_match_exact_python_arithmetic(text: str) -> None:
    exact = "".join(f"Fraction({part})" if part.isdigit() else part for part in _split(text))
    try:
        expected = eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        expected = None
    parsed = expression_value(text)
    assert (None if parsed is None else parsed[0]) == expected


@given(st.text(alphabet="0123456789+-*/() ", max_size=30))
def test_precedence_and_association_match_python(text: str) -> None:
    parsed = expression_value(text)
    if parsed is not None:
        exact = "".join(f"Fraction('{part}')" if part.isdigit() else part for part in _split(text))
        assert parsed[0] == eval(exact.strip(), {"Fraction": Fraction})


@given(st.text(max_size=400))
def test_no_text_makes_grading_raise(text: str) -> None:
    assert TASK.grade(PROBLEM, text) in (True, False)


@pytest.mark.parametrize("answer", ["3 * 5 + 7", "7+5*3", " (3 * 5) + 7 ", "((7)) + ((3*5))"])
def test_right_answers_are_right(answer: str) -> None:
    assert TASK.grade(PROBLEM, answer)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "",
        "22",
        "3 * 5",
        "3 + 5 + 7 + 7",
        "7 + 7 + 5 + 3",
        "3 * 5 + 7 = 22",
        "The answer is 3 * 5 + 7",
        "3 * 5 + 7.",
        "3 * 5 + 7 + 0",
        "3 * 5 + 7 / (1 - 1)",
        "35 - 7 - 6",
        "3 * 5 -(-7)",
        "+3 * 5 + 7",
        "-(-7) + 3 * 5",
        "3 ** 5 + 7",
        "3 // 5 + 7",
        "\u0663 * 5 + 7",
        "\uff13 * 5 + 7",
        "3 \u00d7 5 + 7",
        "3 * 5 + 7)",
        "(3 * 5 + 7",
        "()3 * 5 + 7",
        "3 5 * 7",
        "1e1",
        "__import__('os')",
    ],
)
def test_wrong_answers_are_wrong(answer: str | None) -> None:
    assert not TASK.grade(PROBLEM, answer)


@pytest.mark.parametrize("text", ["(" * 5_000 + "1" + ")" * 5_000, "1" * 10_000, "9*" * 5_000 + "9", "1 " * 10_000])
def test_huge_expressions_are_refused(text: str) -> None:
    assert not TASK.grade(PROBLEM, text)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 2**32))
def test_splits_never_share_a_problem_whatever_the_seeds(train: int, validation: int, test: int) -> None:
    seeds = {"train": train, "validation": validation, "test": test}
    found = [{p.id for p in TASK.problems(split, 100, seed)} for split, seed in seeds.items()]  # type: ignore[arg-type]
    assert sum(map(len, found)) == len(set().union(*found)) == 300


def test_problems_are_distinct_mixed_solvable_and_read_back() -> None:
    problems = TASK.problems("test", 600, 5)
    assert len({p.id for p in problems}) == 600
    counts = [sum(p.difficulty == level for p in problems) for level in "234"]
    assert sum(counts) == 600
    assert min(counts) > 60
    for problem in problems:
        assert TASK.grade(problem, TASK.solve(problem))
        assert TASK.parse(problem.prompt) == problem


def test_the_same_seed_gives_the_same_problems_and_another_seed_others() -> None:
    assert TASK.problems("train", 50, 1) == TASK.problems("train", 50, 1)
    assert TASK.problems("train", 50, 1) != TASK.problems("train", 50, 2)
    assert TASK.problems("test", 0, 1) == []


def test_a_number_may_be_left_out_but_not_used_twice() -> None:
    problem = TASK.problem([3, 5, 8], 8)
    assert TASK.grade(problem, "3 + 5")
    assert TASK.grade(problem, "8")
    assert not TASK.grade(problem, "3 + 3 + 5 - 3")


def test_problems_keep_the_mix_of_difficulties_whatever_their_number() -> None:
    for n in (200, 1000):
        short = sum(problem.difficulty == "2" for problem in TASK.problems("test", n, 5))
        assert 0.32 < short / n < 0.48


def test_a_problem_known_by_value_stays_in_its_split() -> None:
    ids = [problem.id for problem in TASK.problems("test", 3, 0)]
    assert ids == ["1 2 8 -> 5", "6 11 19 -> 2", "1 12 17 -> 4"]


def test_the_solver_finds_answers_that_need_fractions_and_says_when_there_is_none() -> None:
    assert TASK.grade(TASK.problem([8, 3, 8, 3], 24), TASK.solve(TASK.problem([8, 3, 8, 3], 24)))
    with pytest.raises(EdgekitError, match="no solution"):
        TASK.solve(TASK.problem([1, 1], 50))


@pytest.mark.parametrize("prompt", ["", "hello", "3 -> 3", "3 5 7", "3 5 7 -> -2", "\u0663 5 -> 8", "1 2 3 4 5 -> 9"])
def test_other_prompts_are_not_problems(prompt: str) -> None:
    assert TASK.parse(prompt) is None


def test_the_task_is_found_by_name_and_too_much_is_refused() -> None:
    assert get_task("countdown") is TASK
    with pytest.raises(EdgekitError, match="bad problem count"):
        TASK.problems("test", 10**9, 0)
    with pytest.raises(EdgekitError, match="unknown split"):
        TASK.problems("exam", 1, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("task", "counts"), [(EASY, "23"), (HARD, "34")], ids=lambda value: str(value)[:20])
def test_other_difficulties_have_their_own_mix_and_fit_the_tokenizer(task: Countdown, counts: str) -> None:
    assert get_task(task.name) is task
    problems = task.problems("test", 150, 1)
    assert {problem.difficulty for problem in problems} == set(counts)
    for problem in problems:
        assert max(*problem.data["numbers"], problem.data["target"]) < INTEGERS
        assert task.grade(problem, task.solve(problem))
        assert task.parse(problem.prompt) == problem


def test_a_problem_has_one_split_at_every_difficulty() -> None:
    trained = {problem.id for task in (EASY, TASK, HARD) for problem in task.problems("train", 1000, 1)}
    assert not trained & {problem.id for task in (EASY, TASK, HARD) for problem in task.problems("test", 300, 2)}


def test_a_large_part_of_a_split_is_found_although_its_last_problems_are_rare() -> None:
    assert len(Countdown("pairs", {2: 1.0}, {2: 20}).problems("validation", 40, 0)) == 40


def _split(text: str) -> list[str]:
    parts: list[str] = []
    for character in text:
        if character.isdigit() and parts and parts[-1].isdigit():
            parts[-1] += character
        else:
            parts.append(character)
    return parts
