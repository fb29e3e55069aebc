"""Arithmetic: the value of one short operation, answered in one go.

A prompt is ``48 * 10``, ``520 + 317`` or ``max(48, 912, 77)``. The levels go from what a small language model
learns in minutes to products that it cannot do in its head, so that knowing when to ask pays. Splits are
decided by a stable hash of the canonical problem (operands that may be swapped are sorted), so no seed can
make them overlap.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from edgekit.tasks.base import Problem, Split
from edgekit.tasks.digits import DigitsTask
from edgekit.tasks.splits import check_request, split_of

Operation = tuple[str, list[int]]
"""The operator (``+ - * max min``) and its operands in order."""

SHARES = {
    "round product": 0.20,
    "choice": 0.35,
    "plain sum": 0.15,
    "carrying sum": 0.10,
    "product": 0.20,
}
"""The mix: times 10 or 100; the largest or smallest of two or three numbers; a sum or difference whose digits do
not carry, one whose digits do; a product of numbers that are not round."""
MOST_PROBLEMS: dict[Split, int] = {"train": 40_000, "validation": 6_000, "test": 12_000}
"""What may be asked of a split; each holds clearly more."""
TRIES_AT_A_NEW_PROBLEM = 200
_INFIX = re.compile(r"\s*([0-9]{1,3})\s*([-+*])\s*([0-9]{1,3})\s*=?\s*", re.ASCII)
_CHOICE = re.compile(r"\s*(max|min)\s*\(\s*([0-9]{1,3}(?:\s*,\s*[0-9]{1,3}){1,2})\s*\)\s*=?\s*", re.ASCII)
_VALUE: dict[str, Callable[[Sequence[int]], int]] = {
    "+": sum,
    "-": lambda numbers: numbers[0] - numbers[1],
    "*": lambda numbers: numbers[0] * numbers[1],
    "max": max,
    "min": min,
}


class Arithmetic(DigitsTask):
    """One operation on whole numbers below 1000; no value is below zero."""

    name = "arithmetic"

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        """``n`` distinct problems, mixed as SHARES says until a level runs out.

        Raises EdgekitError for an unknown split or more than it gives.
        """
        check_request(self.name, split, n, MOST_PROBLEMS)
        source = random.Random(f"arithmetic/{split}/{seed}")
        found: dict[str, Problem] = {}
        shares = dict(SHARES)
        while len(found) < n:
            level = source.choices(list(shares), weights=list(shares.values()))[0]
            for _ in range(TRIES_AT_A_NEW_PROBLEM):
                problem = _problem(_draw(level, source))
                fresh = problem is not None and problem.difficulty == level and problem.id not in found
                if problem is not None and fresh and split_of(problem.id) == split:
                    found[problem.id] = problem
                    break
            else:
                del shares[level]
        return list(found.values())

    def parse(self, prompt: str) -> Problem | None:
        """The problem of a prompt such as ``48 * 7`` (an ``=`` may follow), or None if it states none."""
        infix, choice = _INFIX.fullmatch(prompt), _CHOICE.fullmatch(prompt)
        if infix is not None:
            return _problem((infix[2], [int(infix[1]), int(infix[3])]))
        if choice is not None:
            return _problem((choice[1], [int(number) for number in choice[2].split(",")]))
        return None


def _draw(level: str, source: random.Random) -> Operation:
    """An operation that may belong to ``level``."""
    if level == "choice":
        return source.choice(["max", "min"]), [_number(source) for _ in range(source.randint(2, 3))]
    if level == "round product":
        numbers = [source.choice([10, 100]), _number(source)]
        source.shuffle(numbers)
        return "*", numbers
    if level == "product":
        return "*", [_number(source), _number(source)]
    if level == "carrying sum":
        low, high = source.choice([(10, 99), (100, 999)])
        return source.choice("+-"), [source.randint(low, high), source.randint(low, high)]
    return _plain_sum(source)


def _plain_sum(source: random.Random) -> Operation:
    """Digit by digit, the leading ones not zero: few random pairs of numbers carry nowhere."""
    operator, left, right = source.choice("+-"), 0, 0
    for place in range(source.choice([2, 3])):
        first = source.randint(0 if place else 1, 9 if place or operator == "-" else 8)
        second = source.randint(0 if place else 1, first if operator == "-" else 9 - first)
        left, right = 10 * left + first, 10 * right + second
    return operator, [left, right]


def _number(source: random.Random) -> int:
    return source.randint(*source.choice([(11, 99), (101, 999)]))


def _problem(operation: Operation) -> Problem | None:
    """The problem of an operation, or None if its value is below zero."""
    operator, numbers = operation
    value = _VALUE[operator](numbers)
    if value < 0:
        return None
    texts = [str(number) for number in numbers]
    prompt = f"{operator}({', '.join(texts)})" if operator in ("max", "min") else f" {operator} ".join(texts)
    canonical = numbers if operator == "-" else sorted(numbers)
    return Problem(f"{operator} {' '.join(map(str, canonical))}", prompt, _difficulty(operation), {"value": value})


def _difficulty(operation: Operation) -> str:
    operator, numbers = operation
    if operator in ("max", "min"):
        return "choice"
    if operator == "*":
        return "round product" if set(numbers) & {10, 100} else "product"
    left, right = (str(number).zfill(3) for number in numbers)
    pairs = [(int(a), int(b)) for a, b in zip(left, right, strict=True)]
    carries = any(a + b > 9 for a, b in pairs) if operator == "+" else any(a < b for a, b in pairs)
    return "carrying sum" if carries else "plain sum"


TASK = Arithmetic()
