"""The near side: a process started for one service, asked over a socket, ended when it takes too long or is unused."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from typing import IO, Any

from edgekit import errors
from edgekit.errors import BundleError, EdgekitError, ErrorKind
from edgekit.isolation.wire import receive, send

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from edgekit.isolation.child import main; main()"
_RAISED = {"BackendMissing": errors.BackendMissing, "BundleError": BundleError, "EdgekitError": EdgekitError}
CLOCK_PER_PROCESSOR_SECOND = 20.0
"""On the clock a process may take so many times its processor time: that ends one that sleeps, and lets one work that
gets a twentieth of a core; but not more than ``LONGEST_WAIT_S`` beyond it."""
LONGEST_WAIT_S = 600.0
LAST_WORDS = 300
"""Characters of what a process that died had written to its standard error."""


def on_the_clock(seconds: float) -> float:
    """How long a call may take that may use ``seconds`` of processor time."""
    return min(seconds * CLOCK_PER_PROCESSOR_SECOND, seconds + LONGEST_WAIT_S)


class Worker:
    """A process that serves ``edgekit``'s module ``service`` with at most ``memory_bytes``; started at once.

    ``subject`` is what errors call the foreign thing that it works on. Asked by one thread at a time.
    """

    def __init__(self, service: str, subject: str, memory_bytes: int) -> None:
        self.subject = subject
        self._lock = threading.Lock()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  closed with the worker
        self._socket, theirs = socket.socketpair()
        arguments = [json.dumps(sys.path), service, str(theirs.fileno()), str(memory_bytes)]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, *arguments],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._words,
            )
        self.close = weakref.finalize(self, _end, self._process, self._socket, self._words)
        """End the process; done by itself when the last reference is gone."""

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        return self.close.alive

    def call(self, method: str, *arguments: Any, seconds: float) -> Any:
        """What the service's ``method`` returns: a JSON value, or bytes.

        Raises the EdgekitError that it raised; and BundleError if it failed otherwise, took more than ``seconds`` of
        processor time (all threads together, up to a whole second more) or :func:`on_the_clock` of it, or its process
        died. After those, and after an interrupt, this worker answers no more.
        """
        with self._lock:
            if not self.alive:
                raise self._failure("its process has ended before")
            try:
                send(self._socket, [method, arguments, seconds])
                reply, beside = receive(self._socket, on_the_clock(seconds))
            except TimeoutError:
                self.close()
                raise self._failure(f"it did not answer within {on_the_clock(seconds):,.0f} s and was ended") from None
            except (EOFError, OSError, ValueError):
                raise self._failure(self._death(seconds)) from None
            except BaseException:  # interrupted: the answer still to come must not pass for the next one's
                self.close()
                raise
        if "error" not in reply:
            return reply.get("value", beside)
        raised = _RAISED.get(reply["error"])
        if raised is not None:
            raise raised(reply["text"], ErrorKind(reply["kind"]))
        raise self._failure(reply["text"])

    def _death(self, seconds: float) -> str:
        """How the process ended that had ``seconds`` of processor time, and the last line that it wrote."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        self._words.seek(0)
        lines = self._words.read().decode("utf-8", "replace").strip().splitlines()
        self.close()
        if code == -signal.SIGXCPU:
            return f"it took more than {seconds:,.0f} s of processor time and was ended"
        ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        words = f" ({lines[-1].strip()[:LAST_WORDS]})" if lines else ""
        return f"its process died with {ended}{words}"

    def _failure(self, why: str) -> BundleError:
        advice = "It is damaged, or made to do harm: get it again from whom you trust"
        return BundleError(f"{self.subject} failed: {why}. {advice}.", ErrorKind.DEVICE_FAILED)


def _end(process: subprocess.Popen[bytes], connection: socket.socket, words: IO[bytes]) -> None:
    connection.close()
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    words.close()
