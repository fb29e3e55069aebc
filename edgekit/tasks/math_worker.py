"""The process that compares mathematical answers with math-verify; run by its path, it imports nothing of edgekit.

Reads one JSON list [reference, answer] a line, writes "true" or "false" a line, after one line "ready".
Sympy can be made to compute for hours or fill the memory by a few characters. So each question has so much
processor time (not time on the clock, which would make a grade depend on what else runs), and so much memory.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

MEMORY_BYTES = 4 * 2**30
PROCESSOR_SECONDS = 2.0
"""After this a question is given up; one to two seconds later the system ends the process, whatever it is at."""
CLEARLY_APART = 1e-4
"""Numbers that differ relatively by more need no proof that they differ. math-verify takes 3.1416 for no pi."""


class OutOfTime(BaseException):
    """Raised inside sympy; no Exception, for sympy catches those."""


def main() -> None:
    """Answer questions until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not pass for an answer
    limit_memory()
    compare("x^2+1", "1+x^2")  # the first comparison loads the parser
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        reference, answer = json.loads(line)
        start_clock(PROCESSOR_SECONDS)
        try:
            equal = compare(reference, answer)
        except (Exception, OutOfTime):
            equal = False
        finally:
            start_clock(0.0)
        answers.write("true\n" if equal else "false\n")
        answers.flush()


def compare(reference: str, answer: str) -> bool:
    """Whether math-verify takes the one expression for the other, each as a whole."""
    from math_verify import parse, verify

    gold, given = (parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (reference, answer))
    if not gold or not given or clearly_apart(gold[0], given[0]):
        return False
    return bool(verify(gold, given, timeout_seconds=None))


def clearly_apart(left: Any, right: Any) -> bool:
    """Whether both are numbers, and not nearly the same one: quick, where sympy would try to prove it."""
    from sympy import Expr

    if not all(isinstance(side, Expr) and side.is_number for side in (left, right)):
        return False
    values = [complex(side.evalf(15)) for side in (left, right)]
    scale = max(map(abs, values))
    return abs(values[0] - values[1]) > CLEARLY_APART * scale


def start_clock(seconds: float) -> None:
    """Raise OutOfTime after so much processor time; 0 stops the clock. Windows has none: the caller waits less long."""
    try:
        import resource
        import signal
    except ImportError:
        return

    def ring(*_: object) -> None:
        raise OutOfTime

    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    used = resource.getrusage(resource.RUSAGE_SELF)
    end = int(used.ru_utime + used.ru_stime + seconds) + 2
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (end if seconds else hard, hard))


def limit_memory() -> None:
    """Hold the process to MEMORY_BYTES where the system can."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    except (ImportError, OSError, ValueError):
        return  # Windows has no such limit, and macOS may refuse it


if __name__ == "__main__":
    main()
