"""Countdown: reach the target with + - * / from the given numbers, each used at most once.

A prompt is ``3 5 7 -> 22``. Splits are decided by a stable hash of the canonical problem (sorted
numbers, target), so no seed can make them overlap. Answers are graded exactly, with fractions.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations

from edgekit.errors import EdgekitError
from edgekit.tasks.base import Problem, Split
from edgekit.tasks.expression import apply, expression_value
from edgekit.tasks.splits import check_request
from edgekit.tasks.splits import split_of as split_of_text

LARGEST_NUMBER = {2: 50, 3: 20, 4: 12}
"""Numbers are drawn from 1 to this, by how many there are: large enough that none can be learned by heart."""
SHARES = {2: 0.40, 3: 0.45, 4: 0.15}
LARGEST_VALUE = 99
MOST_PROBLEMS: dict[Split, int] = {"train": 40_000, "validation": 6_000, "test": 12_000}
"""What may be asked of a split; each holds clearly more."""
TRIES_AT_A_NEW_PROBLEM = 200
_PROMPT = re.compile(r"\s*([0-9]{1,3}(?:[ ,]+[0-9]{1,3})+)\s*->\s*([0-9]{1,3})\s*", re.ASCII)


@dataclass(frozen=True)
class Step:
    """``left operator right = value`` over whole numbers."""

    left: int
    operator: str
    right: int
    value: int

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right} = {self.value}"


@dataclass(frozen=True)
class Solution:
    """Steps that use every number once, the value they end in, and the same as one expression."""

    steps: tuple[Step, ...]
    value: int
    expression: str


def split_of(numbers: Sequence[int], target: int) -> Split:
    """The split a problem belongs to, the same on every machine and for every seed."""
    return split_of_text(_canonical(numbers, target))


def random_solution(
    numbers: Sequence[int], source: random.Random, largest_value: int = LARGEST_VALUE
) -> Solution | None:
    """Random steps through whole numbers from 1 to ``largest_value``; None if the draw ran into a dead end."""
    pool = [(number, str(number)) for number in numbers]
    steps: list[Step] = []
    while len(pool) > 1:
        left, right = (pool.pop(source.randrange(len(pool))) for _ in range(2))
        if left[0] < right[0]:
            left, right = right, left
        values = {op: _whole(left[0], op, right[0], largest_value) for op in "+-*/"}
        operators = [op for op, value in values.items() if value is not None]
        if not operators:
            return None
        operator = source.choice(operators)
        value = values[operator]
        assert value is not None
        steps.append(Step(left[0], operator, right[0], value))
        pool.append((value, _join(left[1], operator, right[1])))
    return Solution(tuple(steps), pool[0][0], pool[0][1])


def solutions_by_value(numbers: Sequence[int], largest_value: int = LARGEST_VALUE) -> dict[int, Solution]:
    """For each value that ``numbers`` reach through whole numbers from 0 to ``largest_value``, one way to it.

    Of several ways it is the first in :func:`search_order`, and so are the values. Zero is among the numbers on the
    way: who only ever learned of differences above it takes 9 - 9 for 1.
    """
    best: dict[int, Solution] = {}
    for solution in _all_solutions([(number, str(number)) for number in numbers], (), largest_value):
        known = best.get(solution.value)
        if known is None or search_order(solution) < search_order(known):
            best[solution.value] = solution
    return dict(sorted(best.items(), key=lambda item: search_order(item[1])))


def _all_solutions(pool: Sequence[tuple[int, str]], steps: tuple[Step, ...], largest_value: int) -> Iterator[Solution]:
    if len(pool) == 1:
        yield Solution(steps, pool[0][0], pool[0][1])
        return
    for one, other in combinations(range(len(pool)), 2):
        left, right = sorted((pool[one], pool[other]), key=lambda item: item[0], reverse=True)
        rest = [item for index, item in enumerate(pool) if index not in (one, other)]
        for operator in "+-*/":
            value = _whole(left[0], operator, right[0], largest_value, smallest=0)
            if value is not None:
                step = Step(left[0], operator, right[0], value)
                yield from _all_solutions(
                    [*rest, (value, _join(left[1], operator, right[1]))], (*steps, step), largest_value
                )


def search_order(solution: Solution) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts ways as one tries them by hand: the largest numbers first, and of two * + - / in this order."""
    return tuple((-step.left, -step.right, step.operator) for step in solution.steps)


def draw_count(source: random.Random, shares: Mapping[int, float] = SHARES, spent: Collection[int] = ()) -> int:
    """How many numbers a problem has, as ``shares`` says, without the ``spent`` counts."""
    left = {count: share for count, share in shares.items() if count not in spent}
    return source.choices(list(left), weights=list(left.values()))[0]


def draw_numbers(count: int, source: random.Random, largest_number: Mapping[int, int] = LARGEST_NUMBER) -> list[int]:
    """``count`` numbers, each from 1 to the largest there is for so many."""
    return [source.randint(1, largest_number[count]) for _ in range(count)]


@dataclass(frozen=True)
class Countdown:
    """One difficulty of the task: how often there are how many numbers, how large they and the values get.

    A problem is the same, and in the same split, at every difficulty that has it.
    """

    name: str = "countdown"
    shares: Mapping[int, float] = field(default_factory=lambda: SHARES)
    largest_number: Mapping[int, int] = field(default_factory=lambda: LARGEST_NUMBER)
    largest_value: int = LARGEST_VALUE
    most: Mapping[Split, int] = field(default_factory=lambda: MOST_PROBLEMS)

    def problem(self, numbers: Sequence[int], target: int) -> Problem:
        """The problem with these numbers, in this order, and this target."""
        prompt = f"{' '.join(map(str, numbers))} -> {target}"
        data = {"numbers": list(numbers), "target": target}
        return Problem(_canonical(numbers, target), prompt, str(len(numbers)), data)

    def problems(self, split: Split, n: int, seed: int) -> list[Problem]:
        """``n`` distinct solvable problems, mixed as ``shares`` says until the short ones run out.

        Raises EdgekitError for an unknown split or more than it gives.
        """
        check_request(self.name, split, n, self.most)
        source = random.Random(f"{self.name}/{split}/{seed}")
        found: dict[str, Problem] = {}
        spent: set[int] = set()  # counts whose problems have run out
        while len(found) < n:
            count = draw_count(source, self.shares, spent)
            for _ in range(TRIES_AT_A_NEW_PROBLEM):  # one try would let repeats thin out the short problems
                numbers = draw_numbers(count, source, self.largest_number)
                solution = random_solution(numbers, source, self.largest_value)
                if solution is None or split_of(numbers, solution.value) != split:
                    continue
                problem = self.problem(numbers, solution.value)
                if problem.id not in found:
                    found[problem.id] = problem
                    break
            else:
                spent.add(count)
                if len(spent) == len(self.shares):
                    spent.clear()  # what is left of a large split is rare, not gone
        return list(found.values())

    def grade(self, problem: Problem, answer: str | None) -> bool:
        """True if ``answer`` has the target's exact value and uses each number at most once."""
        parsed = expression_value(answer) if answer is not None else None
        if parsed is None:
            return False
        value, used = parsed
        return value == problem.data["target"] and Counter(used) <= Counter(problem.data["numbers"])

    def solve(self, problem: Problem) -> str:
        """An expression that reaches the target. Raises EdgekitError if there is none."""
        pool = [(Fraction(number), str(number)) for number in problem.data["numbers"]]
        answer = _search(pool, Fraction(problem.data["target"]), set())
        if answer is None:
            raise EdgekitError(f"no solution: {problem.prompt}. The numbers cannot reach the target. Change one.")
        return answer

    def parse(self, prompt: str) -> Problem | None:
        """The problem of a prompt such as ``3 5 7 -> 22`` (two to four numbers up to 999), or None."""
        match = _PROMPT.fullmatch(prompt)
        if match is None:
            return None
        numbers = [int(number) for number in re.split("[ ,]+", match[1])]
        return self.problem(numbers, int(match[2])) if len(numbers) in SHARES else None


def _canonical(numbers: Sequence[int], target: int) -> str:
    return f"{' '.join(map(str, sorted(numbers)))} -> {target}"


def _whole(left: int, operator: str, right: int, largest: int, smallest: int = 1) -> int | None:
    value = apply(operator, Fraction(left), Fraction(right))
    return int(value) if value is not None and value.denominator == 1 and smallest <= value <= largest else None


def _join(left: str, operator: str, right: str) -> str:
    sides = [text if text.isdigit() else f"({text})" for text in (left, right)]
    return f"{sides[0]} {operator} {sides[1]}"


def _search(pool: list[tuple[Fraction, str]], target: Fraction, dead: set[tuple[Fraction, ...]]) -> str | None:
    if len(pool) == 1:
        return pool[0][1] if pool[0][0] == target else None
    key = tuple(sorted(value for value, _ in pool))
    if key in dead:
        return None
    for i, (left, left_text) in enumerate(pool):
        for j, (right, right_text) in enumerate(pool):
            if i == j:
                continue
            rest = [item for index, item in enumerate(pool) if index not in (i, j)]
            for operator in "+-*/" if i < j else "-/":
                value = apply(operator, left, right)
                if value is None:
                    continue
                answer = _search([*rest, (value, _join(left_text, operator, right_text))], target, dead)
                if answer is not None:
                    return answer
    dead.add(key)
    return None


TASK = Countdown()
EASY = Countdown("countdown-easy", {2: 0.65, 3: 0.35}, most={"train": 9_000, "validation": 1_200, "test": 2_500})
HARD = Countdown("countdown-hard", {3: 0.35, 4: 0.65}, {3: 50, 4: 25}, largest_value=199)
"""No number is above 199, so that each is one token of the built-in policy's tokenizer."""
REASONING = Countdown("countdown-reasoning", {3: 0.55, 4: 0.45}, {3: 12, 4: 9})
"""Small numbers, none of two: worth several attempts in a hundred tokens, for a model that writes digit by digit."""
