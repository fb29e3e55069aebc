"""Overall accuracy as the threshold moves, and the two routers every method lies between, in closed form.

Everything takes ``counts`` (B, n): how often each problem counts in each of B resamples; all ones is the data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.experiment.report.load import Flags, Floats


def accuracy_curve(scores: Floats, local: Flags, cloud: Flags, counts: Floats, grid: Floats) -> Floats:
    """Overall accuracy (B, G) when the share ``grid`` (G,) of problems with the highest ``scores`` (n,) is called.

    Problems of equal score are called in random order: the expectation, a straight line between the thresholds
    around them. NaN below the share that is called whatever the threshold (score +inf).
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(order) - 1)
    weights = counts[:, order]
    total = weights.sum(axis=1, keepdims=True)
    gain = (cloud.astype(np.int8) - local.astype(np.int8)).astype(np.float64)[order]
    share = np.cumsum(weights, axis=1)[:, ends] / total
    right = (np.cumsum(weights * gain, axis=1)[:, ends] + counts @ local[:, None]) / total
    start = counts @ local / total[:, 0]
    share, right = np.pad(share, ((0, 0), (1, 0))), np.concatenate([start[:, None], right], axis=1)
    if np.isposinf(ordered[0]):
        share, right = share[:, 1:], right[:, 1:]
    return _interpolate(grid, share, right)


def random_accuracy(local: Floats, cloud: Floats, fraction: Floats) -> Floats:
    """A router that calls a random share: (1 - c) local + c cloud. Elementwise."""
    return (1 - fraction) * local + fraction * cloud


def oracle_accuracy(local: Floats, helps: Floats, harms: Floats, fraction: Floats) -> Floats:
    """A router that knows both sides' answers and calls a share c where it helps most. Elementwise.

    ``helps``: the share of problems only the cloud answers rightly; ``harms``: only the device. The first ``helps``
    of the calls each gain an answer, the last ``harms`` each lose one:
    local + min(c, helps) - max(0, c - (1 - harms)).
    """
    return local + np.minimum(fraction, helps) - np.maximum(0.0, fraction - (1 - harms))


def _interpolate(grid: Floats, x: Floats, y: Floats) -> NDArray[np.float64]:
    """Row-wise linear interpolation of ``y`` (B, m) over ascending ``x`` in [0, 1] at ``grid`` (G,): (B, G).

    One flat call: each row is moved into an interval of its own. NaN before a row's first x.
    """
    rows = 2.0 * np.arange(len(x))[:, None]
    values = np.interp((grid + rows).ravel(), (x + rows).ravel(), y.ravel()).reshape(len(x), len(grid))
    return np.where(grid < x[:, :1] - 1e-9, np.nan, values)
