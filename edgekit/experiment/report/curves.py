"""Overall accuracy as the threshold moves, in closed form.

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


def _interpolate(grid: Floats, x: Floats, y: Floats) -> NDArray[np.float64]:
    """Row-wise linear interpolation of ``y`` (B, m) over ascending ``x`` in [0, 1] at ``grid`` (G,): (B, G).

    One flat call: each row is moved into an interval of its own. NaN before a row's first x.
    """
    rows = 2.0 * np.arange(len(x))[:, None]
    values = np.interp((grid + rows).ravel(), (x + rows).ravel(), y.ravel()).reshape(len(x), len(grid))
    return np.where(grid < x[:, :1] - 1e-9, np.nan, values)
