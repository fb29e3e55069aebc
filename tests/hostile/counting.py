"""Counting: every class of hostile input says how many it tried, and how many of them did harm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgekit.errors import EdgekitError

T = TypeVar("T")
LONGEST_LINE = 6000


@dataclass
class Count:
    """One class: inputs tried, those refused in one line among them, and what went wrong."""

    tried: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)


COUNTS: dict[str, Count] = {}


class Survives:
    """Called with a class, inputs, and what to do with each: it must work, or raise one line."""

    def __call__(
        self, kind: str, inputs: Iterable[T], attempt: Callable[[T], Any], *, all_refused: bool = False
    ) -> Count:
        """Try all; the count of this call. Fails the test if an input did anything else.

        Fails too if every input was refused, for what comes after the first check was then never tried; with
        ``all_refused`` if one was not.
        """
        count = Count()
        for each in inputs:
            count.tried += 1
            try:
                attempt(each)
            except EdgekitError as error:
                count.refused += 1
                if fault := _fault(str(error)):
                    count.failures.append(f"{fault}: {str(error)[:300]!r} of {each!r:.200}")
            except BaseException as error:  # a panic of a Rust library is no Exception
                if isinstance(error, KeyboardInterrupt):
                    raise
                count.failures.append(f"{type(error).__name__}: {error!s:.300} of {each!r:.200}")
        self.add(kind, count)
        assert not count.failures, "\n".join(count.failures[:10])
        assert count.tried, "nothing was tried"
        assert (count.refused == count.tried) == all_refused, f"{count.refused} of {count.tried} refused"
        return count

    def add(self, kind: str, count: Count) -> None:
        """Add what was counted elsewhere."""
        total = COUNTS.setdefault(kind, Count())
        total.tried += count.tried
        total.refused += count.refused
        total.failures += count.failures


def _fault(line: str) -> str | None:
    if "\n" in line:
        return "more than one line"
    if len(line) > LONGEST_LINE:
        return f"{len(line)} characters"
    return "a traceback" if "Traceback" in line else None
