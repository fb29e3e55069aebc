"""Asking math-verify whether two answers are equal, from any thread, without ever waiting long.

math-verify's own time limit is a signal: it works in the main thread only, replaces the program's alarm, and
cannot stop one long multiplication. So it runs in a process of its own, which is killed when it takes too long.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from edgekit.errors import BackendMissing, install_hint

WORKER = Path(__file__).parent / "math_worker.py"
ANSWER_SECONDS = 60.0
"""On the clock, a last resort: the worker limits its processor time to a few seconds itself."""
START_SECONDS = 120.0


class MathJudge:
    """One worker process, started when it is first needed and again after each that had to be killed."""

    def __init__(self, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def equal(self, reference: str, answer: str) -> bool:
        """Whether math-verify takes ``answer`` for ``reference``; False if it does not say in time.

        Raises :class:`BackendMissing` if math-verify cannot be started.
        """
        with self._lock:
            if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
                self._start()
            reply = self._ask(json.dumps([reference, answer]), self.answer_seconds)
            if reply is None:
                self._stop()
            return reply == "true"

    def close(self) -> None:
        """End the worker process."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        command = [sys.executable, "-P", str(WORKER)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self._owner = os.getpid()  # a forked child must not share its parent's worker
        if self._ask(None, START_SECONDS) != "ready":
            self._stop()
            raise BackendMissing("math-verify: cannot be started. Its process ended at once. Reinstall math-verify.")

    def _ask(self, question: str | None, seconds: float) -> str | None:
        """The next line the worker writes, or None if it ends, or has to be ended, before."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            if question is not None:
                process.stdin.write(question + "\n")
                process.stdin.flush()
            return process.stdout.readline().strip() or None
        except OSError:
            return None
        except BaseException:  # interrupted: the answer still to come must not pass for the next one's
            self._stop()
            raise
        finally:
            timer.cancel()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


_JUDGE = MathJudge()
atexit.register(_JUDGE.close)


@functools.lru_cache(maxsize=100_000)
def mathematically_equal(reference: str, answer: str) -> bool:
    """Whether two LaTeX or plain expressions are equal, asked once for each pair."""
    return _JUDGE.equal(reference, answer)


def require_math_verify() -> None:
    """Raises :class:`BackendMissing` if math-verify is not installed."""
    if importlib.util.find_spec("math_verify") is None:
        raise BackendMissing(f"math answers: math-verify is missing. It grades them. {install_hint('math')}.")
