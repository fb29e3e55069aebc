"""What a cloud is: something that answers a problem, at most once per prompt."""

from __future__ import annotations

from typing import Protocol

from edgekit.tasks.base import Problem


class Cloud(Protocol):
    """Answers hand-offs."""

    name: str

    def answer(self, problem: Problem) -> str:
        """The cloud's answer to ``problem`` (without delimiters). Raises EdgekitError if it cannot be had."""
