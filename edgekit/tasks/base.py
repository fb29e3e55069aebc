"""A task is data and grading in one place: problems from a seed, an exact grade, an exact solver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Problem:
    """One prompt with what grading needs."""

    id: str
    prompt: str
    difficulty: str
    data: dict[str, Any] = field(default_factory=dict, hash=False)


class Task(Protocol):
    """What a task must offer; yours may be a file of its own, see docs/tasks.md."""

    name: str

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        """``n`` distinct problems; the splits never share one, whatever the seeds.

        A fixed collection gives all it has if that is fewer.
        """

    def grade(self, problem: Problem, answer: str | None) -> bool:
        """True if ``answer`` (the text between the answer delimiters) is right. Never raises on bad text."""

    def solve(self, problem: Problem) -> str:
        """A right answer: what the oracle cloud says."""

    def parse(self, prompt: str) -> Problem | None:
        """The problem a user's own prompt states, or None if it is not one of this task's."""
