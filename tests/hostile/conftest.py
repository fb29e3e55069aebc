"""The fixture that counts hostile inputs, and the table of them at the end."""

from __future__ import annotations

from typing import Any

import pytest
from hostile.counting import COUNTS, Survives


@pytest.fixture
def survives() -> Survives:
    """See :class:`Survives`."""
    return Survives()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of what was tried."""
    if not COUNTS:
        return
    terminalreporter.section("hostile inputs")
    rows = [(kind, count.tried, count.refused, len(count.failures)) for kind, count in sorted(COUNTS.items())]
    rows.append(("all", *(sum(row[at] for row in rows) for at in (1, 2, 3))))  # type: ignore[arg-type]
    terminalreporter.write_line(f"{'class':44} {'tried':>6} {'survived':>9} {'of them refused':>16} {'failed':>7}")
    for kind, tried, refused, failed in rows:
        terminalreporter.write_line(f"{kind:44} {tried:6} {tried - failed:9} {refused:16} {failed:7}")
