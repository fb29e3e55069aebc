"""What other people's libraries print, kept off the terminal and put into the log instead."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

log = logging.getLogger(__name__)


class _LogLines(io.TextIOBase):
    """A text stream whose every line becomes a record of :data:`log`."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for line in text.replace("\r", "\n").splitlines():
            if line.strip():
                log.debug("%s", line.rstrip())
        return len(text)


@contextmanager
def logged_chatter() -> Iterator[None]:
    """Send what is printed to stdout and stderr, progress bars and warnings too, to the log; errors still raise."""
    with redirect_stdout(_LogLines()), redirect_stderr(_LogLines()):
        yield
