"""The random streams of a run: each use of chance has its own, and every number follows from (seed, use, index)."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Use(IntEnum):
    """What chance is used for. The numbers are part of every run's results: never renumber them."""

    SHUFFLE = 0
    SAMPLE = 1
    FILTER = 2
    EARLY = 3


def stream_seed(seed: int, use: Use, index: int) -> int:
    """A 32-bit seed for ``use`` in step or epoch ``index`` of the run with ``seed``."""
    return int(np.random.SeedSequence([seed, int(use), index]).generate_state(1, np.uint32)[0])
