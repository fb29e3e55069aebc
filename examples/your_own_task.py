"""A task of your own: reach 24 with three numbers, each used exactly once, and a policy trained on it.

    python examples/your_own_task.py

The file is the task: its path is what ``task`` names, here and in ``edgekit train --set task=FILE``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import edgekit
from edgekit.tasks import Problem, Split
from edgekit.tasks.expression import expression_value

TARGET = 24
TENTHS: dict[Split, range] = {"train": range(7), "validation": range(7, 8), "test": range(8, 10)}


class TwentyFour:
    """Hands of three numbers from 1 to 12 that reach 24. Of every ten, one is for validation and two for testing."""

    name = "twenty-four"

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        """The first ``n`` hands of ``split``, or all; there are few, so ``seed`` does not choose among them."""
        return [problem(hand) for index, hand in enumerate(hands()) if index % 10 in TENTHS[split]][:n]

    def grade(self, problem: Problem, answer: str | None) -> bool:
        """Right if the expression, read without running anything, uses the hand up and comes to 24."""
        read = expression_value(answer or "")
        return read is not None and read[0] == TARGET and sorted(read[1]) == problem.data["hand"]

    def solve(self, problem: Problem) -> str:
        """A right answer, for the oracle cloud."""
        return next(solutions(problem.data["hand"]))

    def parse(self, prompt: str) -> Problem | None:
        """The problem of a prompt such as ``2 3 4 -> 24``."""
        numbers, arrow, target = prompt.partition(" -> ")
        words = numbers.split()
        fits = arrow and target == str(TARGET) and len(words) == 3 and all(word.isdecimal() for word in words)
        return problem([int(word) for word in words]) if fits else None


def problem(hand: Sequence[int]) -> Problem:
    """A problem as the built-in policy reads Countdown's: the numbers, an arrow, the target."""
    numbers = " ".join(map(str, hand))
    return Problem(numbers, f"{numbers} -> {TARGET}", "three numbers", {"hand": sorted(hand)})


@functools.cache
def hands() -> list[tuple[int, ...]]:
    """Every hand that reaches 24, in order."""
    return [hand for hand in itertools.combinations_with_replacement(range(1, 13), 3) if next(solutions(hand), None)]


def solutions(hand: Sequence[int]) -> Iterator[str]:
    """Every expression over ``hand``, worked from left to right, that comes to 24."""
    for a, b, c in itertools.permutations(hand):
        for first, second in itertools.product("+-*/", repeat=2):
            text = f"({a} {first} {b}) {second} {c}"
            read = expression_value(text)
            if read is not None and read[0] == TARGET:
                yield text


TASK = TwentyFour()


def main(out: Path = Path("out/twenty_four"), **settings: Any) -> None:
    """Train on the task in this file, then ask for a hand that training never saw."""
    run = edgekit.train("quick", out=out, settings={"task": __file__, **settings})
    (unseen,) = TASK.problems("test", 1, seed=0)
    reply = edgekit.answer(run, unseen.prompt)
    print(f"{unseen.prompt}: {reply.answer}, by {reply.route}, {'right' if reply.correct else 'wrong'}")


if __name__ == "__main__":
    main()
