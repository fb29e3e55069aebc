"""Prompts without answers of their own: a cloud's answers are the references, equal or as good as a judge says.

Who answers and judges is appointed once for each task in a process, by the command that trains or measures with it;
nothing else may ask a cloud by grading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from edgekit.errors import EdgekitError
from edgekit.tasks.base import Problem, Task
from edgekit.tasks.collection import Collection, Splits
from edgekit.tasks.grading import exact, math, number

AGREES, JUDGE = "agrees", "judge"
CLOUD_RULES = (AGREES, JUDGE)


class Referee(Protocol):
    """Who knows what the prompts' file does not."""

    def answer(self, problem: Problem) -> str:
        """The reference. Raises :class:`EdgekitError` if it cannot be had."""

    def gather(self, problems: Sequence[Problem]) -> None:
        """Get the references of ``problems``, several at a time."""

    def as_good(self, problem: Problem, answer: str, reference: str) -> bool:
        """Whether ``answer`` serves as well as ``reference``. Raises :class:`EdgekitError` if it cannot be said."""


_appointed: dict[str, Referee] = {}


class Answered(Collection):
    """A collection whose references ``source``'s referee gives; ``rule`` is :data:`AGREES` or :data:`JUDGE`."""

    def __init__(self, name: str, rule: str, read: Callable[[], Splits], source: str) -> None:
        super().__init__(name, rule, read)
        self.source = source

    def appoint(self, referee: Referee) -> None:
        """From now on ``referee`` gives this task's references."""
        _appointed[self.source] = referee

    @property
    def has_references(self) -> bool:
        """Whether anybody is appointed."""
        return self.source in _appointed

    def grade(self, problem: Problem, answer: str | None) -> bool:
        """True if ``answer`` equals the cloud's, or with :data:`JUDGE` is as good."""
        if answer is None or not answer.strip():
            return False
        reference = self.solve(problem)
        if equal(reference, answer):
            return True
        return self.rule == JUDGE and self._referee().as_good(problem, answer, reference)

    def gather(self, problems: Sequence[Problem]) -> None:
        """Get the cloud's answers to ``problems`` before they are needed one by one."""
        self._referee().gather(problems)

    def solve(self, problem: Problem) -> str:
        """The cloud's answer."""
        return self._referee().answer(problem)

    def _referee(self) -> Referee:
        if self.source not in _appointed:
            raise EdgekitError(
                f"no answers: {self.name}#{self.rule}. Its prompts have none, a cloud gives them. "
                "Name one: --cloud openai:MODEL@BASE_URL (training: --set cloud=...)."
            )
        return _appointed[self.source]


def equal(reference: str, answer: str) -> bool:
    """The same text, number or mathematical object."""
    return exact(reference, answer) or number(reference, answer) or math(reference, answer)


def gather_references(task: Task, problems: Sequence[Problem]) -> None:
    """Before ``problems`` are graded: a task without answers of its own gets theirs, several at a time."""
    if isinstance(task, Answered):
        task.gather(problems)


def can_grade(task: Task) -> bool:
    """Whether ``task`` knows right answers, so that grading asks nobody who was not appointed."""
    return not isinstance(task, Answered) or task.has_references
