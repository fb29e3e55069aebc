"""A hard budget for the cloud: calls an hour, a day, in all, and cost. Kept in SQLite, exact whoever shares it.

A call is counted before it is sent, in the transaction that finds room for it, so that neither two processes nor a
kill between counting and sending can exceed the budget. What was counted and certainly never left can be given back.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import EdgekitError

PERIODS = {"hour": 3_600.0, "day": 86_400.0, "total": float("inf")}
_LIMIT = re.compile(r"(?P<amount>\d+(?:\.\d{1,6})?)(?P<unit>usd)?/(?P<period>hour|day|total)")
_FORMS = "Write CALLS/PERIOD or COSTusd/PERIOD, as 20/hour, 100/day, 2.50usd/day, 1000/total"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, cost_usd REAL NOT NULL DEFAULT 0, request TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS calls_at ON calls (at);
"""
WAIT_S = 10.0
"""How long one process waits for another's transaction; each takes a millisecond."""


@dataclass(frozen=True)
class Limit:
    """At most ``amount`` calls, or US dollars if ``is_cost``, in any ``period`` that ends now."""

    amount: float
    period: str
    is_cost: bool = False

    def __str__(self) -> str:
        return f"{self.amount:g}{'usd' if self.is_cost else ''}/{self.period}"


class BudgetSpent(EdgekitError):
    """No room for another call. ``limit`` is the one that is reached."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        super().__init__(f"budget spent: {limit}. No prompt leaves the device until there is room. Raise it or wait.")


def parse_limits(texts: Sequence[str]) -> tuple[Limit, ...]:
    """The limits that ``texts`` name; several may stand in one, with commas. Raises :class:`EdgekitError`."""
    limits = []
    for text in (part.strip() for each in texts for part in each.split(",")):
        match = _LIMIT.fullmatch(text)
        if match is None or (match["unit"] is None and "." in match["amount"]) or len(match["amount"]) > 20:
            raise EdgekitError(f"bad budget: {text!r}. It is no limit. {_FORMS}.")
        limits.append(Limit(float(match["amount"]), match["period"], match["unit"] is not None))
    return tuple(limits)


class Budget:
    """The calls counted in the file ``path``, held to ``limits``; without limits they are only counted.

    ``clock`` gives seconds since the epoch. Safe under several threads and processes. Raises
    :class:`EdgekitError` where the file cannot be used.
    """

    def __init__(self, path: Path, limits: Sequence[Limit] = (), clock: Callable[[], float] = time.time) -> None:
        self.path, self.limits, self._clock = path, tuple(limits), clock
        self._kept: tuple[sqlite3.Connection, os.stat_result] | None = None
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise self._unusable(error) from None
        with self._connection() as connection:
            connection.executescript(_SCHEMA)

    def reserve(self, request: str, cost_usd: float = 0.0) -> int:
        """Count a call that is about to be sent; returns its number. ``cost_usd``: the most it may cost.

        Raises :class:`BudgetSpent` if a limit leaves no room for it.
        """
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for limit in self.limits:
                if self._used(connection, limit) + (cost_usd if limit.is_cost else 1) > limit.amount + 1e-9:
                    raise BudgetSpent(limit)
            row = (self._clock(), cost_usd, request)
            cursor = connection.execute("INSERT INTO calls (at, cost_usd, request) VALUES (?, ?, ?)", row)
            connection.execute("COMMIT")
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def settle(self, number: int, cost_usd: float) -> None:
        """What the call of that number really cost."""
        with self._connection() as connection:
            connection.execute("UPDATE calls SET cost_usd = ? WHERE id = ?", (cost_usd, number))

    def give_back(self, number: int) -> None:
        """The call of that number certainly never left the device."""
        with self._connection() as connection:
            connection.execute("DELETE FROM calls WHERE id = ?", (number,))

    def left(self) -> dict[str, float]:
        """What each limit still allows, by the limit as text."""
        with self._connection() as connection:
            return {str(each): max(0.0, each.amount - self._used(connection, each)) for each in self.limits}

    def spent(self) -> tuple[int, float]:
        """All calls ever counted, and what they cost in US dollars."""
        with self._connection() as connection:
            calls, cost = connection.execute("SELECT count(*), coalesce(sum(cost_usd), 0) FROM calls").fetchone()
            return int(calls), float(cost)

    def _used(self, connection: sqlite3.Connection, limit: Limit) -> float:
        now = self._clock()
        what = "coalesce(sum(cost_usd), 0)" if limit.is_cost else "count(*)"
        # A clock set back must not open the budget: what seems to lie in the future counts.
        query = f"SELECT {what} FROM calls WHERE at > ?"
        return float(connection.execute(query, (now - PERIODS[limit.period],)).fetchone()[0])

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._open()
            except (sqlite3.Error, OSError) as error:
                self._close()
                raise self._unusable(error) from None
            except BaseException:
                self._close()  # rolls back what was not committed
                raise

    def _open(self) -> sqlite3.Connection:
        """The connection, kept: opening one costs four times as much as reading it. Anew if the file is another."""
        found = os.stat(self.path)
        if self._kept is not None and not os.path.samestat(self._kept[1], found):
            self._close()
        if self._kept is None:
            made = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
            self._kept = made, found
        return self._kept[0]

    def _close(self) -> None:
        if self._kept is not None:
            self._kept[0].close()
            self._kept = None

    def _unusable(self, error: Exception) -> EdgekitError:
        return EdgekitError(f"budget file unusable: {self.path}. {error}. Move it away, or name another with --state.")
