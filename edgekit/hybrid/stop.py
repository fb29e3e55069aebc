"""How whoever asked says that no answer is wanted any more."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Stopped(Exception):
    """The user wants no more of it."""


class Stop:
    """Set once and for good. Work looks at it between its steps; who waits is told, so that nobody needs to poll."""

    def __init__(self) -> None:
        self._lock, self._is_set = threading.Lock(), False
        self._told: list[Callable[[], object]] = []

    def set(self) -> None:
        """No answer is wanted any more."""
        with self._lock:
            self._is_set = True
            told, self._told = self._told, []
        for tell in told:
            tell()

    def is_set(self) -> bool:
        """Whether :meth:`set` was called."""
        return self._is_set

    def tell(self, call: Callable[[], object]) -> None:
        """Have ``call`` called, in the thread that stops, when it is set; at once if it is already."""
        with self._lock:
            if not self._is_set:
                self._told.append(call)
                return
        call()
