"""Tasks whose answer is a whole number, written as digits: their grade and their solver."""

from __future__ import annotations

import re

from edgekit.tasks.base import Problem

_DIGITS = re.compile(r"0|[1-9][0-9]{0,11}", re.ASCII)


class DigitsTask:
    """A task whose problems hold their answer as ``data["value"]``, 0 or more; ``rule`` reads a cloud's prose."""

    rule = "number"

    def grade(self, problem: Problem, answer: str | None) -> bool:
        """True if ``answer`` is the value, written as plain digits without leading zeros."""
        text = (answer or "").strip()
        return _DIGITS.fullmatch(text) is not None and int(text) == problem.data["value"]

    def solve(self, problem: Problem) -> str:
        """The value, as digits."""
        return str(problem.data["value"])
