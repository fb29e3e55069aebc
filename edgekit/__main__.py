"""The ``edgekit`` command and ``python -m edgekit``."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress

from edgekit.free_memory import keep_few_kernels

LATER_S = 0.01


def main() -> None:
    """Run the command that was typed. Ctrl-C ends it with 130 and no traceback, while it still imports too."""
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a background job ignores Ctrl-C
    if listens:
        signal.signal(signal.SIGINT, _leave)  # nothing has begun that could be left half done
    # Spinning threads halve the speed of small models on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_few_kernels()
    # torch's loggers have handlers of their own, which write to stderr.
    os.environ.setdefault("TORCH_LOGS", "-all")
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character is told of it, and nothing fails
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    from edgekit.cli.app import INTERRUPTED, run_command

    try:
        if listens:
            sys.unraisablehook = _interrupted_late
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run_command()
        if listens:
            signal.signal(signal.SIGINT, _leave)
    except KeyboardInterrupt:  # a second one, while the first was told of, or one between two commands of this function
        _leave()
    if code == INTERRUPTED:
        _leave()
    sys.exit(code)


def _interrupted_late(lost: sys.UnraisableHookArgs) -> None:
    """Have Ctrl-C come again that came while Python cleaned an object up, which would only tell of it and go on."""
    if lost.exc_type is KeyboardInterrupt:
        from threading import Timer

        Timer(LATER_S, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


def _leave(*_: object) -> None:
    """End at once: what an interrupted import left in Python's own state is not to be cleaned up or told of."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(130)


if __name__ == "__main__":
    main()
