"""Word problems: stories say what their chains do, splits never meet, answers are exact."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import EdgekitError
from edgekit.tasks import get_task
from edgekit.tasks.word_problems import EASY, HARD, TASK, WordProblems

DIFFICULTIES = (EASY, TASK, HARD)
STORY = "Ana has 12 marbles. Ana gives 2 of them away. Ana sorts them into 5 equal piles and keeps one pile. "
QUESTION = "How many marbles does Ana have now?"
COMPARISON = "Ana owns 12 shells. Ben has 3 fewer than Ana. Ben has 3 times as many as Kira. "


@pytest.mark.parametrize(
    ("prompt", "value", "difficulty"),
    [
        (STORY + QUESTION, 2, "2"),
        (
            "  Zoe starts with 10 dollars.\nZoe earns 5 dollars more. How many dollars does Zoe have in the end? ",
            15,
            "1",
        ),
        (COMPARISON + "How many shells does Kira have?", 3, "2"),
        (COMPARISON + "How many shells do they have together?", 12 + 9 + 3, "3"),
    ],
)
def test_stories_are_read_and_solved(prompt: str, value: int, difficulty: str) -> None:
    problem = TASK.parse(prompt)
    assert problem is not None
    assert (problem.data["value"], problem.difficulty) == (value, difficulty)
    assert TASK.solve(problem) == str(value)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Ana has 12 marbles.",
        QUESTION,
        STORY + "How many marbles does Ben have now?",
        STORY + "How many apples does Ana have now?",
        STORY + "Ben finds 3 more. " + QUESTION,
        STORY + "Ana loses 50 of them. " + QUESTION,
        "Ana has 12 marbles. Ana sorts them into 5 equal piles and keeps one pile. " + QUESTION,
        "Ana has 12 marbles. Ana dreams of 5 more. " + QUESTION,
    ],
)
def test_other_texts_are_not_ours(prompt: str) -> None:
    assert TASK.parse(prompt) is None


@given(st.text(max_size=300))
def test_no_prompt_makes_reading_raise(text: str) -> None:
    assert TASK.parse(text) is None
    assert TASK.parse(STORY + text) is None or text.strip() == QUESTION


@given(st.text(max_size=40))
def test_no_answer_makes_grading_raise_or_passes_for_the_number(text: str) -> None:
    problem = TASK.parse(STORY + QUESTION)
    assert problem is not None
    assert TASK.grade(problem, text) == (text.strip() == "2")


@pytest.mark.parametrize("answer", [None, "", "02", "2.0", "+2", "2 marbles", "4 - 2", "２", "1 2", "2" * 5000])
def test_anything_but_the_plain_number_is_wrong(answer: str | None) -> None:
    problem = TASK.parse(STORY + QUESTION)
    assert problem is not None
    assert not TASK.grade(problem, answer)


@settings(max_examples=5, deadline=None)
@given(st.sampled_from(DIFFICULTIES), st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 2**32))
def test_splits_never_share_a_problem_whatever_the_seeds(task: WordProblems, a: int, b: int, c: int) -> None:
    seeds = {"train": a, "validation": b, "test": c}
    found = [{p.id for p in task.problems(split, 60, seed)} for split, seed in seeds.items()]  # type: ignore[arg-type]
    assert sum(map(len, found)) == len(set().union(*found)) == 180


def test_a_problem_has_one_split_at_every_difficulty() -> None:
    trained = {problem.id for task in DIFFICULTIES for problem in task.problems("train", 800, 1)}
    assert not trained & {problem.id for task in DIFFICULTIES for problem in task.problems("test", 500, 2)}


@pytest.mark.parametrize("task", DIFFICULTIES, ids=lambda task: task.name)
def test_problems_are_mixed_as_stated_solved_and_read_back(task: WordProblems) -> None:
    problems = task.problems("test", 400, 3)
    assert problems == task.problems("test", 400, 3) != task.problems("test", 400, 4)
    counts = Counter(problem.difficulty for problem in problems)
    assert all(abs(counts[str(steps)] / 400 - share) < 0.12 for steps, share in task.shares.items())
    for problem in problems:
        assert task.grade(problem, task.solve(problem))
        assert task.parse(problem.prompt) == problem
        assert 1 <= problem.data["value"] <= 199


def test_the_tasks_are_found_by_name_and_too_much_is_refused() -> None:
    assert [get_task(task.name) for task in DIFFICULTIES] == list(DIFFICULTIES)
    with pytest.raises(EdgekitError, match="bad problem count"):
        TASK.problems("test", 10**9, 0)
