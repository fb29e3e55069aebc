"""What every worker speaks: one JSON object a line, in on standard input, out on standard output.

A worker loads one model and says so (``runtime``, ``load_s``, ``megabytes``); then each request
``{"prompt": [ids], "steps": n, "clock": name}`` is answered by ``{"prefill_s", "decode_s", "tokens"}``, seconds of that
clock; with ``"stop": [ids]`` it ends at the first of these. It runs in whatever Python has its runtime's packages, so
this file needs nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TextIO

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
"""The second counts what all threads of this process have worked, and nothing of what other processes take."""


class Contender(Protocol):
    """A loaded model that continues a prompt greedily."""

    runtime: str
    """What runs, with its version and settings."""

    def prefill(self, prompt: Sequence[int], may_end: bool) -> int:
        """Forget everything, take the prompt, return the most probable next token.

        ``may_end``: the text may end; where not, a runtime that would stop by itself is kept from it.
        """

    def decode(self, token: int) -> int:
        """Take the token returned last, return the most probable next one."""


def serve(files: Iterable[Path], load: Callable[[], Contender]) -> None:
    """Load, report, then answer requests until standard input ends. ``files``: the model as a phone carries it."""
    replies = open_replies()
    begin = time.perf_counter()
    contender = load()
    load_s = time.perf_counter() - begin
    say(replies, {"runtime": contender.runtime, "load_s": load_s, "megabytes": sum(map(megabytes, files))})
    for line in sys.stdin:
        request = json.loads(line)
        now, stop = CLOCKS[request["clock"]], request.get("stop", [])
        begin = now()
        tokens = [contender.prefill(request["prompt"], bool(stop))]
        middle = now()
        for _ in range(request["steps"]):
            if tokens[-1] in stop:
                break
            tokens.append(contender.decode(tokens[-1]))
        end = now()
        say(replies, {"prefill_s": middle - begin, "decode_s": end - middle, "tokens": tokens})


def open_replies() -> TextIO:
    """Where replies go. Whatever else is printed to standard output, as runtimes do, goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def megabytes(path: Path) -> float:
    """Size in 10^6 bytes of a file, or of everything in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def say(replies: TextIO, data: dict[str, object]) -> None:
    """Send one reply."""
    print(json.dumps(data), file=replies, flush=True)
