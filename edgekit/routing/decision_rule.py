"""The one decision rule: does the policy call, by the logits of a step at which a marker could go on.

The margin is the largest logit of the ids that a marker could go on with, less the largest of all others. The policy
calls if margin + marker bias is above 0. A bias of -inf forbids calling. Numpy only; torch callers pass ``.numpy()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOLO = float("-inf")
"""The marker bias under which nothing is ever handed off by marker."""


@dataclass(frozen=True)
class Contest:
    """Marker against everything else, one entry a step: the best id of each side (int64), and the margin (float64)."""

    marker: NDArray[np.int64]
    other: NDArray[np.int64]
    margin: NDArray[np.float64]


def contest(logits: NDArray[np.float32], candidates: Sequence[int]) -> Contest:
    """The contest for ``logits`` (..., vocab); ``candidates``: the ids that a marker could go on with.

    The difference is taken in float32, as every port does, so that margins agree to the bit.
    """
    ids = np.array(sorted(candidates))
    others = np.array(logits, np.float32)
    others[..., ids] = -np.inf
    marker, other = ids[logits[..., ids].argmax(-1)], others.argmax(-1)
    return Contest(marker, other, (_at(logits, marker) - _at(others, other)).astype(np.float64))


def calls(margin: Any, marker_bias: float) -> Any:
    """Whether the policy calls: a bool, or one for each of an array of margins."""
    return margin + marker_bias > 0


def _at(logits: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.take_along_axis(logits, np.expand_dims(ids, -1), -1)[..., 0]


def largest_margin(margins: Sequence[tuple[int, float]], marker_bias: float) -> float:
    """The largest of ``margins`` (position, margin) with the bias included, an infinite one left out; -inf if none."""
    return max((margin for _, margin in margins), default=-np.inf) + (0.0 if np.isinf(marker_bias) else marker_bias)
