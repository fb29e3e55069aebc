"""What a cloud is: something that answers a problem, at most once per prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from edgekit.tasks.base import Problem


class Cloud(Protocol):
    """Answers hand-offs."""

    name: str

    def answer(self, problem: Problem) -> str:
        """The cloud's answer to ``problem`` (without delimiters). Raises EdgekitError if it cannot be had."""


def answer_all(cloud: Cloud, problems: Sequence[Problem]) -> Iterator[str]:
    """The answers to ``problems``, in order, asked for as many at a time as ``cloud`` takes (``at_once``, else one)."""
    at_once = getattr(cloud, "at_once", 1)
    if at_once == 1:
        yield from map(cloud.answer, problems)
        return
    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(cloud.answer, problems)
