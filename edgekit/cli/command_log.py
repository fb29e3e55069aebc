"""Where a command's log goes: a file if one is asked for, else memory, until something unforeseen happens.

Records and warnings of every library arrive here, so none of them reaches the terminal.
"""

from __future__ import annotations

import logging
import os
import platform
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from edgekit.atomic_write import owner_only
from edgekit.cache import LOGS, cache_folder
from edgekit.version import __version__

REMEMBERED = 500
"""How many records are kept for the file that tells of an unforeseen failure."""
KEPT_FILES = 20
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class CommandLog(logging.Handler):
    """The root logger's only handler while a command runs (``with`` puts it there and takes it away).

    ``path`` is the file written to, or None while there is none.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(FORMAT))
        self.path: Path | None = None
        here = f"edgekit {__version__}, Python {platform.python_version()}, {platform.platform()}"
        self.lines = deque([f"{here}: {' '.join(arguments)}"], maxlen=REMEMBERED)

    def __enter__(self) -> CommandLog:
        root = logging.getLogger()
        self._before = root.handlers, root.level
        root.handlers, root.level = [self], logging.INFO
        logging.getLogger("edgekit").setLevel(logging.DEBUG)
        logging.captureWarnings(True)
        return self

    def __exit__(self, *_: object) -> None:
        logging.captureWarnings(False)
        root = logging.getLogger()
        root.handlers, root.level = self._before
        logging.getLogger("edgekit").setLevel(logging.NOTSET)

    def write_to(self, path: Path) -> Path:
        """Write to ``path`` from now on, and what is remembered; returns it. Raises OSError if that is refused."""
        if self.path is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _append(path, self.lines)
            self.path = path
        return self.path

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a record, and write it if there is a file."""
        line = self.format(record)
        self.lines.append(line)
        if self.path is not None:
            with suppress(OSError):  # a log that cannot be kept stops no work
                _append(self.path, [line])

    def write_traceback(self, error: BaseException) -> Path:
        """Write ``error``'s traceback after what led up to it; returns the file. Raises OSError if that is refused."""
        path = self.path or self.write_to(new_log_file())
        _append(path, ["".join(traceback.format_exception(error))])
        return path


def _append(path: Path, lines: Iterable[str]) -> None:
    with open(path, "a", encoding="utf-8", errors="backslashreplace", opener=owner_only) as file:
        file.writelines(f"{line}\n" for line in lines)


def new_log_file() -> Path:
    """A file of its own for this command among the cache's logs, of which the last few are kept."""
    folder = cache_folder() / LOGS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("edgekit-*.log"))[: -KEPT_FILES + 1]:
            old.unlink(missing_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir())
    return folder / f"edgekit-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
