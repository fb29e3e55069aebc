"""Counting: every class of hostile input says how many it tried, and how many of them did harm.

A plugin of pytest, not a conftest: where tests run in several processes, the one that draws the table reads no folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from edgekit.errors import LONGEST, EdgekitError

T = TypeVar("T")
LONGEST_LINE = LONGEST + 20
PROPERTY = "hostile inputs"


@dataclass
class Count:
    """One class: inputs tried, those refused in one line among them, and what went wrong."""

    tried: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)


class Survives:
    """Called with a class, inputs, and what to do with each: it must work, or raise one line."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self.record = record

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
        """Tell of what was counted elsewhere."""
        self.record(PROPERTY, [kind, count.tried, count.refused, len(count.failures)])


@pytest.fixture
def survives(record_property: Callable[[str, object], None]) -> Survives:
    """See :class:`Survives`; what is counted goes with the test's report, from whatever process it ran in."""
    return Survives(record_property)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of what was tried."""
    totals: dict[str, list[int]] = {}
    for report in (each for outcome in ("passed", "failed") for each in terminalreporter.getreports(outcome)):
        for kind, *counts in (value for name, value in report.user_properties if name == PROPERTY):
            totals[kind] = [sum(pair) for pair in zip(totals.get(kind, [0, 0, 0]), counts, strict=True)]
    if not totals:
        return
    terminalreporter.section("hostile inputs")
    totals["all"] = [sum(column) for column in zip(*totals.values(), strict=True)]
    terminalreporter.write_line(f"{'class':44} {'tried':>6} {'survived':>9} {'of them refused':>16} {'failed':>7}")
    for kind in [*sorted(totals.keys() - {"all"}), "all"]:
        tried, refused, failed = totals[kind]
        terminalreporter.write_line(f"{kind:44} {tried:6} {tried - failed:9} {refused:16} {failed:7}")


def _fault(line: str) -> str | None:
    if "\n" in line:
        return "more than one line"
    if len(line) > LONGEST_LINE:
        return f"{len(line)} characters"
    return "a traceback" if "Traceback" in line else None
