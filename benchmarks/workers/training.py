"""What every training worker speaks, over the same pipes as protocol.py.

A worker says so when it is ready (``runtime``); then each line on standard input is one training step, answered by
``{"seconds", "rollout_s", "completion_tokens", "prompt_tokens", "peak_rss_mb"}``. Its only argument is a JSON object:
see :class:`Job`.
"""

from __future__ import annotations

import json
import resource
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass


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
    quantize: str | None = None
    """The recipe on whose grid the step is taken; None: floats."""


def read_job() -> Job:
    """The job given on the command line."""
    return Job(**json.loads(sys.argv[1]))


def reward(token_ids: Sequence[int]) -> float:
    """As good as random, so that every response has an advantage and none is left out of the update."""
    return zlib.crc32(bytes(str(list(token_ids)), "ascii")) / 2**32


def peak_rss_mb() -> float:
    """Most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
