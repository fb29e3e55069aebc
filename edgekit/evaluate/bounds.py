"""The two routers that every policy lies between: one that calls at random, one that knows both sides' answers."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Numbers = TypeVar("Numbers", float, NDArray[np.float64])


def random_accuracy(local: Numbers, cloud: Numbers, fraction: Numbers) -> Numbers:
    """A router that calls a random share: (1 - c) local + c cloud. Elementwise."""
    return (1 - fraction) * local + fraction * cloud


def oracle_accuracy(local: Numbers, helps: Numbers, harms: Numbers, fraction: Numbers) -> NDArray[np.float64]:
    """A router that knows both sides' answers and calls a share c where it helps most. Elementwise.

    ``helps``: the share of problems only the cloud answers rightly; ``harms``: only the device. The first ``helps``
    of the calls each gain an answer, the last ``harms`` each lose one:
    local + min(c, helps) - max(0, c - (1 - harms)).
    """
    return local + np.minimum(fraction, helps) - np.maximum(0.0, fraction - (1 - harms))
