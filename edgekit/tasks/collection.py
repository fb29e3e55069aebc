"""A task over a fixed collection of problems with reference answers, graded by one of the rules."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.tasks.base import Problem, Split
from edgekit.tasks.grading import RULES, fault_of, last_boxed, reference_answer
from edgekit.tasks.splits import SPLITS, check_split

PROMPT_COLUMNS = ("prompt", "problem", "question")
ANSWER_COLUMNS = ("answer", "solution")
DIFFICULTY_COLUMNS = ("difficulty", "level")

MOST_CHARACTERS = 200_000
"""Of a prompt, and of an answer: a row's are somebody's, and go to a cloud, a judge and every bundle as they are."""

Splits = Mapping[Split, Sequence[Problem]]


class Collection:
    """Problems read once, when they are first needed, by ``read``; their references stand in ``data["answer"]``.

    A problem may name a rule of its own in ``data["rule"]``.
    """

    def __init__(self, name: str, rule: str, read: Callable[[], Splits]) -> None:
        self.name = name
        self.rule = rule
        self._read = read

    @functools.cached_property
    def splits(self) -> Splits:
        """The problems of each split."""
        return self._read()

    @functools.cached_property
    def _by_id(self) -> dict[str, Problem]:
        return {prompt_id(problem.prompt): problem for split in SPLITS for problem in self.splits.get(split, ())}

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        """``n`` distinct problems in an order drawn from ``seed``, or all there are if they are fewer.

        Raises EdgekitError for an unknown or empty split.
        """
        check_split(self.name, split)
        problems = list(self.splits.get(split, ()))
        if n < 0 or (n and not problems):
            has = ", ".join(f"{len(self.splits[s])} {s}" for s in SPLITS if self.splits.get(s))
            raise EdgekitError(f"no {split} problems: {self.name}. It has {has or 'none'}. Use another task for this.")
        random.Random(f"{self.name}/{split}/{seed}").shuffle(problems)
        return problems[:n]

    def grade(self, problem: Problem, answer: str | None) -> bool:
        """True if ``answer`` is the problem's reference answer under its own rule, or else the collection's."""
        rule = RULES[problem.data.get("rule") or self.rule]
        return answer is not None and rule(problem.data["answer"], answer)

    def solve(self, problem: Problem) -> str:
        """The reference answer."""
        answer: str = problem.data["answer"]
        return answer

    def parse(self, prompt: str) -> Problem | None:
        """The problem of the collection with this prompt, or None."""
        return self._by_id.get(prompt_id(prompt))


@dataclass(frozen=True)
class Row:
    """One line of a data file, made into a problem; ``split`` is what the line itself says."""

    problem: Problem
    split: str | None


def prompt_id(prompt: str) -> str:
    """What makes two prompts one problem: the text but for its white space, as a short hash."""
    return hashlib.sha256(" ".join(prompt.split()).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_row(row: Mapping[str, Any], rule: str | None) -> Row | str:
    """The problem in ``row``, or what is wrong with it.

    A worked solution counts as its final answer: what follows ``####`` or stands in the last ``\\boxed{}``. ``rule``
    None: the row needs no answer, and one that it has is not read. A row may name a rule of its own.
    """
    own = row.get("rule")
    if own is not None and (not isinstance(own, str) or own not in RULES):
        return f"unknown rule {own!r}, one of {', '.join(RULES)} is meant"
    rule = rule if rule is None else own or rule
    prompt_name, answer_name = _first(row, PROMPT_COLUMNS), _first(row, ANSWER_COLUMNS)
    if prompt_name is None:
        return f"it has no {' or '.join(PROMPT_COLUMNS)}"
    prompt = row[prompt_name]
    if not isinstance(prompt, str) or not prompt.strip():
        return f"{prompt_name} is not a text"
    if len(prompt) > MOST_CHARACTERS:
        return _too_long(prompt_name, prompt)
    name = str(row.get("id") or prompt_id(prompt))
    if rule is None:
        return Row(Problem(name, prompt.strip(), _difficulty(row, "")), row.get("split"))
    if answer_name is None:
        return f"it has no {' or '.join(ANSWER_COLUMNS)}"
    answer = row[answer_name]
    if isinstance(answer, bool) or not isinstance(answer, (str, int, float)):
        return f"{answer_name} is neither a text nor a number"
    worked = str(answer)
    if len(worked) > MOST_CHARACTERS:
        return _too_long(answer_name, worked)
    final = _final_answer(worked, answer_name) if rule == "math" else worked
    if final is None:
        return f"{answer_name} has no final answer, #### or \\boxed{{}}"
    why = fault_of(rule, final)
    if why is not None:
        return f"{answer_name} {final[:40]!r} does not fit the rule {rule}: {why}"
    data = {"answer": final.strip()} | ({"rule": own} if own else {})
    problem = Problem(name, prompt.strip(), _difficulty(row, worked), data)
    return Row(problem, row.get("split"))


def _too_long(name: str, text: str) -> str:
    return f"{name} has {len(text):,} characters, at most {MOST_CHARACTERS:,} are read"


def _first(row: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    return next((column for column in columns if row.get(column) is not None), None)


def _final_answer(text: str, column: str) -> str | None:
    if column == "solution" or "####" in text:
        return reference_answer(text)
    return last_boxed(text) or text


def _difficulty(row: Mapping[str, Any], worked: str) -> str:
    """The level the row names, else the number of lines before ``####``, which are GSM8K's steps."""
    column = _first(row, DIFFICULTY_COLUMNS)
    if column is not None:
        return str(row[column]).removeprefix("Level ").strip() or "unknown"
    steps = worked.rpartition("####")[0].strip()
    return str(len(steps.splitlines())) if steps else "unknown"
