"""The budget is exact: under threads, processes and kill -9, whatever the clock does."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import EdgekitError
from edgekit.hybrid.budget import Budget, BudgetSpent, Limit, parse_limits


class Clock:
    def __init__(self, now: float = 1e9) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_limits_are_read_and_nonsense_is_refused() -> None:
    assert parse_limits(["20/hour", "100/day, 2.50usd/day"]) == (
        Limit(20, "hour"),
        Limit(100, "day"),
        Limit(2.5, "day", is_cost=True),
    )
    nonsense = ("", "20", "20/week", "-1/day", "2.5/day", "nan/day", "1e3/day", "20/hour/day", "20 /day")
    for text in (*nonsense, "9" * 400 + "/day"):
        with pytest.raises(EdgekitError, match="bad budget"):
            parse_limits([text])


def test_a_call_is_counted_until_its_period_has_passed(tmp_path: Path) -> None:
    clock = Clock()
    budget = Budget(tmp_path / "budget.sqlite", parse_limits(["2/hour", "3/day"]), clock)
    budget.reserve("a")
    budget.reserve("b")
    with pytest.raises(BudgetSpent, match="2/hour"):
        budget.reserve("c")
    clock.now += 3_601
    budget.reserve("c")
    with pytest.raises(BudgetSpent, match="3/day"):
        budget.reserve("d")
    assert budget.left() == {"2/hour": 1, "3/day": 0}


def test_cost_is_reserved_at_its_most_and_settled_at_what_it_was(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "b", parse_limits(["1usd/total"]))
    first = budget.reserve("a", cost_usd=0.7)
    with pytest.raises(BudgetSpent):
        budget.reserve("b", cost_usd=0.4)
    budget.settle(first, 0.1)
    budget.reserve("b", cost_usd=0.4)
    assert budget.spent() == (2, pytest.approx(0.5))


def test_what_never_left_is_given_back_once(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "b", parse_limits(["1/total"]))
    number = budget.reserve("a")
    budget.give_back(number)
    budget.give_back(number)
    assert budget.reserve("b") != number
    with pytest.raises(BudgetSpent):
        budget.reserve("c")


def test_a_clock_set_back_does_not_open_the_budget(tmp_path: Path) -> None:
    clock = Clock()
    budget = Budget(tmp_path / "b", parse_limits(["1/hour"]), clock)
    budget.reserve("a")
    clock.now -= 10 * 3_600
    with pytest.raises(BudgetSpent):
        budget.reserve("b")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 7_200), max_size=20), st.integers(1, 5))
def test_no_hour_ever_holds_more_than_the_limit(waits: list[float], most: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        clock, sent = Clock(), []
        budget = Budget(Path(folder) / "b", (Limit(most, "hour"),), clock)
        for wait in waits:
            clock.now += wait
            try:
                budget.reserve("x")
            except BudgetSpent:
                assert sum(at > clock.now - 3_600 for at in sent) >= most
            else:
                sent.append(clock.now)
    for at in sent:
        assert sum(at - 3_600 < other <= at for other in sent) <= most


def test_threads_together_get_exactly_the_limit(tmp_path: Path) -> None:
    def one(_: int) -> bool:
        try:
            Budget(tmp_path / "b", (Limit(20, "total"),)).reserve("x")
        except BudgetSpent:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(60))) == 20


SENDER = """
import sys
from pathlib import Path
from edgekit.hybrid.budget import Budget, BudgetSpent, Limit
budget, sent = Budget(Path(sys.argv[1]), (Limit(40, "total"),)), Path(sys.argv[2])
while True:
    try:
        number = budget.reserve("x")
    except BudgetSpent:
        break
    with sent.open("a") as file:
        file.write(f"{number}\\n")
"""


def test_processes_killed_at_any_moment_never_send_more_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "b"
    files = [tmp_path / f"sent{index}" for index in range(4)]
    started = [subprocess.Popen([sys.executable, "-c", SENDER, str(path), str(file)]) for file in files]
    while not any(file.exists() for file in files):
        started[0].poll()
    for process in started[:2]:
        os.kill(process.pid, signal.SIGKILL)
    for process in started:
        process.wait()
    sent = [line for file in files if file.exists() for line in file.read_text().split()]
    calls, _ = Budget(path).spent()
    assert len(set(sent)) == len(sent) <= calls == 40


def test_the_file_is_its_owner_s_and_a_broken_one_is_one_line(tmp_path: Path) -> None:
    Budget(tmp_path / "b").reserve("x")
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    (tmp_path / "bad").write_bytes(b"no database at all" * 100)
    with pytest.raises(EdgekitError, match="budget file unusable"):
        Budget(tmp_path / "bad")


def test_a_file_that_is_moved_away_while_it_is_open_counts_no_more_and_says_so(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "b", parse_limits(["1/total"]))
    budget.reserve("x")
    (tmp_path / "b").rename(tmp_path / "aside")
    with pytest.raises(EdgekitError, match="budget file unusable"):
        budget.left()
    Budget(tmp_path / "b").reserve("y")
    with pytest.raises(BudgetSpent):
        budget.reserve("z")
    assert budget.spent()[0] == 1
