"""A local log of all that left the device: what, when, why, to whom, what it cost. Its owner's alone, and bounded."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError

MAX_BYTES = 4_000_000
KEPT = 4
"""Older files beside the present one: audit.jsonl.1 is the youngest of them."""


class AuditLog:
    """Lines of JSON in ``path``, appended whole; several processes may write. Rotated at ``max_bytes``."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path, self.max_bytes = path, max_bytes

    def append(self, entry: dict[str, Any]) -> None:
        """Add ``entry``. Raises :class:`EdgekitError` if it cannot be written: what is not logged is not sent."""
        line = json.dumps(entry, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked():
                if self.path.exists() and self.path.stat().st_size + len(line) > self.max_bytes:
                    self._rotate()
                descriptor = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
                try:
                    self._end_last_line(descriptor)
                    while line:  # a disk that fills up takes a part first
                        line = line[os.write(descriptor, line) :]
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise EdgekitError(f"cannot write the audit log: {self.path}. {error.strerror}. Free or move it.") from None

    def last(self, n: int) -> list[dict[str, Any]]:
        """The youngest ``n`` entries of the present file, oldest first; a line torn by a crash is left out."""
        if not self.path.is_file():
            return []
        entries = []
        for line in self.path.read_bytes().splitlines()[-n:]:
            try:
                entries.append(json.loads(line))
            except (ValueError, RecursionError):
                continue
        return entries

    def _end_last_line(self, descriptor: int) -> None:
        """A line that a crash cut short ends here, so that the next one is whole."""
        size = os.fstat(descriptor).st_size
        if size:
            with open(self.path, "rb") as file:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    os.write(descriptor, b"\n")

    def _rotate(self) -> None:
        for number in range(KEPT, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            younger = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
            if younger.exists():
                os.replace(younger, older)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # a kill releases it too
