"""What every training worker speaks, over the same pipes as protocol.py.

A worker says so when it is ready (``runtime``); then each line on standard input is one training step, answered by
``{"seconds", "rollout_s", "completion_tokens", "prompt_tokens", "peak_mb"}``. Its only argument is a JSON object:
see :class:`Job`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Job:
    """What a contender trains: ``prompts`` are taken in order, ``prompts_per_step`` a step, over and over."""

    model: str
    """A Hugging Face folder."""
    prompts: list[str]
    prompts_per_step: int
    group_size: int
    completion_tokens: int
    """Of every response: none may end earlier."""
    bfloat16: bool
    threads: int
    checkpointing: bool
    device: str = "cpu"
    """cpu or cuda."""
    quantize: str | None = None
    """The recipe on whose grid the step is taken; None: floats."""


def read_job() -> Job:
    """The job given on the command line."""
    return Job(**json.loads(sys.argv[1]))


def reward(token_ids: Sequence[int]) -> float:
    """As good as random, so that every response has an advantage and none is left out of the update."""
    return zlib.crc32(bytes(str(list(token_ids)), "ascii")) / 2**32


def peak_mb(device: str) -> float:
    """Most memory that this process has held so far: the machine's, or of a GPU what torch has reserved there."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def now(device: str) -> float:
    """Seconds, once the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def place(device: str) -> str:
    """What is said of where a contender computes."""
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"
