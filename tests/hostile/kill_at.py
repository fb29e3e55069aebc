"""Killing work at its k-th file-system event, by tracing rather than by chance.

Python's audit hook tells of every open for writing, rename, mkdir, unlink, link, rmdir and truncate before it happens;
fsyncs and exchanges are wrapped. A child forked from here kills itself just before the event whose number it was given;
what was written but not yet on the disk is cut in half then, as a power failure may. Or it sends itself Ctrl-C there.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Ended:
    """How a child ended: killed where it should be, or with an exit code; and the events up to there."""

    killed: bool
    code: int
    events: list[str]


def run_until(work: Callable[[], int], root: Path, last: int = 0, by: signal.Signals = signal.SIGKILL) -> Ended:
    """Do ``work`` in a child that is sent ``by`` before its event number ``last`` under ``root`` (0: never)."""
    log = root.parent / "events.json"
    log.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        tracer = Tracer(root, last, log, by)
        code = 70
        with contextlib.suppress(BaseException):
            output = open(root.parent / "output.txt", "w")  # noqa: SIM115  to the end of the process
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.stdout = sys.stderr = output  # pytest's own write elsewhere
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
                torch.set_num_threads(1)  # the pool of threads did not come along: waiting for it would never end
                tracer.start()
                code = work()
            except BaseException:
                traceback.print_exc()
            tracer.tell()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return Ended(killed, -1 if killed else os.waitstatus_to_exitcode(status), json.loads(log.read_text()))


class Tracer:
    """Counts the events under ``root``; there is no way back once it has started, so only ever in a child."""

    def __init__(self, root: Path, last: int, log: Path, by: signal.Signals) -> None:
        self.root, self.last, self.log, self.by = str(root.resolve()) + os.sep, last, log, by
        self.events: list[str] = []
        self.unsynced: set[str] = set()

    def start(self) -> None:
        """Trace from here on."""
        from edgekit import atomic_write

        sync, exchange = os.fsync, atomic_write.exchange

        def traced_sync(descriptor: int) -> None:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
            self._happens("fsync", name)
            sync(descriptor)
            self.unsynced.discard(name)

        def traced_exchange(one: Path, other: Path) -> bool:
            self._happens("exchange", str(other))
            return exchange(one, other)

        os.fsync = traced_sync
        atomic_write.exchange = traced_exchange
        sys.addaudithook(self._audit)

    def tell(self) -> None:
        """Write down what happened."""
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(descriptor, json.dumps(self.events).encode())
        os.close(descriptor)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes) and isinstance(flags, int) and flags & WRITES:
                name = os.path.abspath(os.fsdecode(path))
                self._happens("open", name)
                self.unsynced.add(name)
        elif event in EVENTS:
            name = arguments[0]
            self._happens(event, os.path.abspath(os.fsdecode(name)) if isinstance(name, str | bytes) else "")

    def _happens(self, what: str, name: str) -> None:
        if not (name + os.sep).startswith(self.root):
            return
        self.events.append(f"{what} {name.removeprefix(self.root)}")
        if len(self.events) != self.last:
            return
        if self.by == signal.SIGKILL:
            for unsynced in self.unsynced:
                cut_in_half(unsynced)
            self.tell()
        os.kill(os.getpid(), self.by)


def cut_in_half(name: str) -> None:
    """Leave the first half of a file."""
    with contextlib.suppress(OSError):
        descriptor = os.open(name, os.O_RDWR)
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        os.close(descriptor)
