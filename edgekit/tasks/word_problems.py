"""Word problems: a short story in which a number changes step by step; what is it at the end?

A story is a first number and a chain of operations (``12 + 5 * 3``, read from left to right), told in one of
three settings. Its difficulty is the number of steps. Names, things and wording do not make another problem:
the split is decided by a hash of the chain alone. Every number is a whole one from 1 to 199.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.tasks.base import Problem, Split
from edgekit.tasks.digits import DigitsTask
from edgekit.tasks.splits import check_request, split_of
from edgekit.tasks.stories import NAMES, SETTINGS, Setting, read_story

LARGEST_VALUE = 199
LARGEST_START = 60
LARGEST_TERM = 50
LARGEST_FACTOR = 9
TOGETHER_SHARE = 0.3
"""How often a comparison between people ends in a sum over all of them."""
MOST_PROBLEMS: dict[Split, int] = {"train": 40_000, "validation": 6_000, "test": 12_000}
TRIES_AT_A_NEW_PROBLEM = 200


def apply(operator: str, left: int, right: int) -> int:
    """``left operator right`` in whole numbers; ``right`` is not zero."""
    return {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[operator]


@dataclass(frozen=True)
class Chain:
    """The story's numbers: ``start``, then (operator, operand) pairs; ``together`` sums all that came up."""

    start: int
    steps: tuple[tuple[str, int], ...]
    together: bool = False

    def values(self) -> list[int] | None:
        """The number at the start and after each step; None if one is not whole or lies outside 1 to 199."""
        values = [self.start]
        for operator, operand in self.steps:
            if operator == "/" and values[-1] % operand:
                return None
            values.append(apply(operator, values[-1], operand))
        return values if all(1 <= value <= LARGEST_VALUE for value in values) else None

    def answer(self) -> int | None:
        """What the story asks for, or None if the chain leaves the range."""
        values = self.values()
        if values is None:
            return None
        return sum(values) if self.together else values[-1]

    def __str__(self) -> str:
        return " ".join([str(self.start), *(f"{op} {k}" for op, k in self.steps), *["together"] * self.together])


@dataclass(frozen=True)
class WordProblems(DigitsTask):
    """One difficulty of the task: how often there are how many steps. A problem keeps its split in all of them."""

    name: str
    shares: Mapping[int, float]

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        """``n`` distinct problems, mixed as ``shares`` says until the short ones run out.

        Raises EdgekitError for an unknown split or more than it gives.
        """
        check_request(self.name, split, n, MOST_PROBLEMS)
        source = random.Random(f"{self.name}/{split}/{seed}")
        found: dict[str, Problem] = {}
        shares = dict(self.shares)  # without the lengths whose problems have run out
        while len(found) < n:
            steps = source.choices(list(shares), weights=list(shares.values()))[0]
            for _ in range(TRIES_AT_A_NEW_PROBLEM):
                setting = source.choice(SETTINGS)
                chain = _draw(steps, setting, source)
                if chain is not None and str(chain) not in found and split_of(str(chain)) == split:
                    found[str(chain)] = _problem(chain, _tell(chain, setting, source))
                    break
            else:
                del shares[steps]
                shares = shares or dict(self.shares)  # what is left of a large split is rare, not gone
        return list(found.values())

    def parse(self, prompt: str) -> Problem | None:
        """The problem of a story told in this task's sentences, or None."""
        prompt = " ".join(prompt.split())
        story = read_story(prompt)
        chain = None if story is None else Chain(*story)
        return None if chain is None or chain.answer() is None else _problem(chain, prompt)


def _problem(chain: Chain, prompt: str) -> Problem:
    return Problem(str(chain), prompt, str(len(chain.steps) + chain.together), {"value": chain.answer()})


def _draw(steps: int, setting: Setting, source: random.Random) -> Chain | None:
    """A chain of so many steps (a final sum is one), or None if its sum leaves the range."""
    together = setting.together is not None and steps > 1 and source.random() < TOGETHER_SHARE
    start = value = source.randint(2, LARGEST_START)
    chosen: list[tuple[str, int]] = []
    for _ in range(steps - together):
        fitting = {operator: operands for operator, operands in _operands(value).items() if operands}
        operator = source.choice(list(fitting))
        operand = source.choice(fitting[operator])
        chosen.append((operator, operand))
        value = apply(operator, value, operand)
    chain = Chain(start, tuple(chosen), together)
    return chain if (chain.answer() or 0) <= LARGEST_VALUE else None


def _operands(value: int) -> dict[str, Sequence[int]]:
    """By operator, what may follow ``value`` so that the result stays whole and in the range."""
    return {
        "+": range(2, min(LARGEST_TERM, LARGEST_VALUE - value) + 1),
        "-": range(2, min(LARGEST_TERM, value - 1) + 1),
        "*": range(2, min(LARGEST_FACTOR, LARGEST_VALUE // value) + 1),
        "/": [divisor for divisor in range(2, LARGEST_FACTOR + 1) if value % divisor == 0],
    }


def _tell(chain: Chain, setting: Setting, source: random.Random) -> str:
    """The chain as a story."""
    things = source.choice(setting.things)
    names = source.sample(NAMES, len(chain.steps) + 1)
    sentences = [setting.start.format(name=names[0], k=chain.start, things=things)]
    holder = 0
    for operator, operand in chain.steps:
        following = holder + 1 if setting.compares else holder
        sentence = source.choice(setting.sentences[operator])
        sentences.append(sentence.format(name=names[holder], next=names[following], k=operand, things=things))
        holder = following
    question = setting.together if chain.together and setting.together is not None else setting.last
    return " ".join([*sentences, question.format(name=names[holder], things=things)])


TASK = WordProblems("word-problems", {1: 0.2, 2: 0.3, 3: 0.3, 4: 0.2})
EASY = WordProblems("word-problems-easy", {1: 0.4, 2: 0.6})
HARD = WordProblems("word-problems-hard", {3: 0.2, 4: 0.3, 5: 0.3, 6: 0.2})
