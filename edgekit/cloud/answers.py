"""What clouds have answered, kept for this user in SQLite: training, experiments and evaluation pay once a prompt.

A request is known by all that was sent: server, model and words. While one process asks, others that want the same wait
for its answer. The file is its owner's alone.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgekit.cache import ANSWERS, cache_folder
from edgekit.cloud.openai_client import OpenAICloud, StreamedReply
from edgekit.cloud.request import CloudRequest, Message, Usage
from edgekit.errors import EdgekitError
from edgekit.tasks.base import Problem

WAIT_S = 30.0
"""How long one process waits for another's transaction; each takes a millisecond."""
LOCKS = 256
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
  request TEXT PRIMARY KEY, server TEXT NOT NULL, model TEXT NOT NULL, text TEXT NOT NULL, at REAL NOT NULL,
  prompt_tokens INTEGER, reply_tokens INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_server ON answers (server);
"""


def answers_file() -> Path:
    """Where this user's answers are kept."""
    return cache_folder() / ANSWERS


class AnswerStore:
    """Replies in the file ``path``, which is made when the first is kept. Safe under several threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def once(self, request: CloudRequest, ask: Callable[[CloudRequest], tuple[str, Usage | None]]) -> str:
        """The reply kept for ``request``, else what ``ask`` gives, kept from now on.

        Raises what ``ask`` raises, and :class:`EdgekitError` if the file cannot be used; but for a disk that fills up
        meanwhile, before anything is asked.
        """
        key = request.digest()
        known = self._find(key)
        if known is not None:
            return known
        with self._alone(key):
            known = self._find(key)
            if known is not None:
                return known
            text, usage = ask(request)
            counted = (usage.prompt_tokens, usage.completion_tokens) if usage is not None else (None, None)
            row = (key, request.server, request.model, text, time.time(), *counted)
            with self._connection() as connection:
                connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            return text

    def known(self, requests: Sequence[CloudRequest]) -> int:
        """How many of ``requests`` have a reply."""
        if not self.path.is_file():
            return 0
        found = "SELECT 1 FROM answers WHERE request = ?"
        with self._connection() as connection:
            keys = [(request.digest(),) for request in requests]
            return sum(connection.execute(found, key).fetchone() is not None for key in keys)

    def has_asked(self, server: str) -> bool:
        """Whether there is a reply of ``server``."""
        if not self.path.is_file():
            return False
        with self._connection() as connection:
            return (
                connection.execute("SELECT 1 FROM answers WHERE server = ? LIMIT 1", (server,)).fetchone() is not None
            )

    def _find(self, key: str) -> str | None:
        with self._connection() as connection:
            row = connection.execute("SELECT text FROM answers WHERE request = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Held while the request is asked; requests that share a lock by chance only wait. A kill releases it."""
        folder = self.path.with_suffix(".locks")
        try:
            folder.mkdir(exist_ok=True, mode=0o700)
            lock = os.open(folder / f"{int(key[:8], 16) % LOCKS:02x}", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise self._unusable(error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            if not self.path.is_file():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)
            connection.executescript(_SCHEMA)
            yield connection
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from None
        finally:
            if connection is not None:
                connection.close()

    def _unusable(self, error: Exception) -> EdgekitError:
        return EdgekitError(f"answers file unusable: {self.path}. {error}. Move it away; its answers are asked again.")


class KeptCloud:
    """``cloud``, asked once for each problem, whoever asks; what a conversation sends is not kept."""

    def __init__(self, cloud: OpenAICloud, store: AnswerStore) -> None:
        self.cloud, self.store = cloud, store
        self.name, self.server, self.model = cloud.name, cloud.server, cloud.model
        self.at_once = cloud.limits.at_once

    def request(self, messages: tuple[Message, ...]) -> CloudRequest:
        """See :class:`edgekit.cloud.request.ChatCloud`."""
        return self.cloud.request(messages)

    def send(self, request: CloudRequest) -> StreamedReply:
        """See :class:`edgekit.cloud.request.ChatCloud`."""
        return self.cloud.send(request)

    def request_of(self, problem: Problem) -> CloudRequest:
        """What the cloud is sent for ``problem``."""
        return self.request((Message("user", problem.prompt),))

    def complete(self, request: CloudRequest) -> str:
        """The whole reply to ``request``. Raises :class:`EdgekitError`."""
        return self.store.once(request, self.cloud.complete)

    def answer(self, problem: Problem) -> str:
        """See :class:`edgekit.cloud.client.Cloud`."""
        return self.cloud.read(problem, self.complete(self.request_of(problem)))

    def note(self) -> str | None:
        """See :meth:`edgekit.cloud.openai_client.OpenAICloud.note`."""
        return self.cloud.note()
