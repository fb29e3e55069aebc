"""Locks that a kill releases: one process at a time works on a folder, and only its own traces are swept away."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgekit.errors import EdgekitError

PREFIX = ".edgekit-"
"""What is being written, or only a sign that somebody writes; swept away if its process was killed."""
TRIES, PAUSE_S = 5, 0.05
"""A folder that has just been put in its place is still locked for a moment by whoever put it there."""


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder: True if it is ours now, False if another has it, None if the system cannot tell."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network file system without locks
        return None
    return True


def still_named(descriptor: int, path: Path) -> bool:
    """Whether ``path`` is still the very file or folder that ``descriptor`` opened."""
    try:
        here = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (opened.st_dev, opened.st_ino)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep every other process that asks for ``folder`` out until the block ends, or this process does.

    Leaves nothing in the folder. Raises :class:`EdgekitError` if another process has it, or it is no folder.
    """
    real = folder.resolve()
    descriptor = _lock(real)
    if descriptor is None and not real.is_dir():
        raise EdgekitError(f"no such folder: {folder}. There is nothing to work on. Check the path.")
    if descriptor is None:
        raise EdgekitError(f"folder in use: {folder}. Another edgekit command writes there. Wait for it, or stop it.")
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def claim(folder: Path, part: str) -> Iterator[None]:
    """The same for a ``part`` of ``folder`` that has no folder of its own.

    Raises :class:`EdgekitError` if another process has it.
    """
    sign = folder.resolve() / f"{PREFIX}{part}"
    descriptor = _lock(sign, make=True)
    if descriptor is None:
        raise EdgekitError(f"folder in use: {folder}. Another edgekit command is at {part}. Wait for it, or stop it.")
    try:
        yield
    finally:
        with suppress(OSError):
            sign.rmdir()
        os.close(descriptor)


def _lock(folder: Path, make: bool = False) -> int | None:
    """The folder opened and locked, or None; ``make`` makes it if it is not there."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S)
        try:
            if make:
                folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except NotADirectoryError:
            return None
        except FileNotFoundError:
            continue  # between the two steps of a replacement, or swept away
        if try_lock(descriptor) is not False and still_named(descriptor, folder):
            return descriptor
        os.close(descriptor)
    return None
