"""A circuit breaker: a server whose last calls failed is left alone for a while, then tried once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FAILURES, COOL_S = 4, 20.0


class Breaker:
    """Opens after ``failures`` in a row; ``cool_s`` seconds later one call may try, and the rest see what it meets."""

    def __init__(
        self, failures: int = FAILURES, cool_s: float = COOL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._cool_s, self._clock = failures, cool_s, clock
        self._failed, self._closed_again_at = 0, 0.0
        self._lock = threading.Lock()

    @property
    def closed(self) -> bool:
        """Whether a call may be sent now; asking when the time has come makes the asker the one that tries."""
        with self._lock:
            if self._failed < self._limit:
                return True
            if self._clock() < self._closed_again_at:
                return False
            self._closed_again_at = self._clock() + self._cool_s
            return True

    def worked(self) -> None:
        """A call was answered."""
        with self._lock:
            self._failed = 0

    def failed(self, counts: bool) -> None:
        """A call was not; ``counts``: for a reason that may pass (network, overload), not for a wrong key."""
        with self._lock:
            self._failed = self._failed + 1 if counts else 0
            if self._failed >= self._limit:
                self._closed_again_at = self._clock() + self._cool_s
