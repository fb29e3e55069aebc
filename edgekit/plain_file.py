"""Reading files that came from outside: plain ones only, and no more of them than a limit."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

DOCUMENT_BYTES = 4_000_000
"""The largest document that people write or edgekit makes: manifest, routing data, recipe, configuration."""
TOKENIZER_BYTES = 128_000_000
"""The largest tokenizer.json: several times that of 262,144 tokens."""
RECORD_BYTES = 1_000_000_000
"""The largest file of records, one a line: metrics, answers, recorded cases, a task's problems."""


def open_plain(path: Path) -> io.BufferedReader:
    """``path`` opened to be read. Raises OSError, or ValueError if it is a folder, pipe, device or the like."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not be waited for
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is no plain file")
    return open(descriptor, "rb")


def read_bytes(path: Path, limit: int = DOCUMENT_BYTES) -> bytes:
    """Its content. Raises OSError, or ValueError if it is no plain file or has more than ``limit`` bytes."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""
        if max(size, len(data)) > limit:
            raise ValueError(f"it has {max(size, len(data)):,} bytes, more than {limit:,}")
        return data


def read_text(path: Path, limit: int = DOCUMENT_BYTES) -> str:
    """The same, as UTF-8."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from None
