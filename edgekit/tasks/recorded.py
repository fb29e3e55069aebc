"""Grading without the task: the reference answer that a bundle records with a prompt, and by which rule."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass

from edgekit.tasks.base import Problem, Task
from edgekit.tasks.collection import Collection
from edgekit.tasks.grading import RULES, fault_of


@dataclass(frozen=True)
class Grading:
    """A reference answer, and the name of the rule in :data:`RULES` that holds answers against it."""

    rule: str
    answer: str

    @property
    def is_possible(self) -> bool:
        """Whether this host can grade by it: the rule is known, reads the answer, and has what it needs."""
        if self.rule not in RULES or fault_of(self.rule, self.answer) is not None:
            return False
        return self.rule != "math" or importlib.util.find_spec("math_verify") is not None


def grading_of(task: Task, problem: Problem) -> Grading | None:
    """With what ``problem`` is graded where ``task`` is not; None where only the task's own program can."""
    rule = problem.data.get("rule") or getattr(task, "rule", None)
    return Grading(rule, task.solve(problem)) if rule in RULES else None


def recorded_task(name: str, prompts: Iterable[tuple[str, Grading]]) -> Collection:
    """The task that recorded ``prompts`` with their answers make: a few problems, all of its test split."""
    problems = [
        Problem(f"recorded-{number:04d}", prompt, "recorded", {"answer": grading.answer, "rule": grading.rule})
        for number, (prompt, grading) in enumerate(prompts)
    ]
    return Collection(name, "exact", lambda: {"test": problems})
