"""Timing models step by step: a prompt each, then decode steps that the copies of one model take in turn."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.routing.step_model import StepModel


@dataclass(frozen=True)
class Turns:
    """Seconds of each copy's prompt, seconds of each step, and the processor seconds per second of each step."""

    prefill: list[float]
    seconds: list[float]
    cores: list[float]


def take_turns(copies: Sequence[StepModel], prompt: Sequence[int], steps: int) -> Turns:
    """Time ``prompt`` on each of ``copies``, and ``steps`` decode steps after it, each by itself."""
    turns = Turns([], [], [])
    for model in copies:
        model.reset()
        begin = time.perf_counter()
        model.prefill(prompt)
        turns.prefill.append(time.perf_counter() - begin)
    for index in range(steps):
        model, token = copies[index % len(copies)], prompt[index % len(prompt)]
        busy, begin = time.process_time(), time.perf_counter()
        model.decode(token)
        turns.seconds.append(time.perf_counter() - begin)
        turns.cores.append((time.process_time() - busy) / turns.seconds[-1])
    return turns


def forget_peak_rss() -> int:
    """Make :func:`peak_rss` start from now where the system can (Linux). Returns the resident bytes now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak_rss()
    return _status("VmRSS")


def peak_rss() -> int:
    """Most resident bytes of this process, since the start or the last :func:`forget_peak_rss`."""
    try:
        return _status("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))
