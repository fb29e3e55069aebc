"""The process that compares mathematical answers with math-verify; run by its path, it imports nothing of edgekit.

Reads one JSON list [reference, answer] a line, writes "true" or "false" a line, after one line "ready".
Sympy can be made to compute for hours or fill the memory by a few characters: whoever started this kills it.
"""

from __future__ import annotations

import json
import os
import sys

MEMORY_BYTES = 4 * 2**30
LIBRARY_SECONDS = 2


def main() -> None:
    """Answer questions until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not pass for an answer
    _limit_memory()
    from math_verify import parse, verify

    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        reference, answer = (f"\\boxed{{{text}}}" for text in json.loads(line))
        try:
            gold = parse(reference, parsing_timeout=LIBRARY_SECONDS)
            given = parse(answer, parsing_timeout=LIBRARY_SECONDS)
            equal = bool(gold) and bool(given) and verify(gold, given, timeout_seconds=LIBRARY_SECONDS)
        except (Exception, RecursionError, MemoryError):
            equal = False
        answers.write("true\n" if equal else "false\n")
        answers.flush()


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    except (ImportError, OSError, ValueError):
        return  # Windows has no such limit, and macOS may refuse it


if __name__ == "__main__":
    main()
