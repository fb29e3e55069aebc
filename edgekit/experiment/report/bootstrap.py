"""Confidence intervals over problems and seeds at once, by a vectorized bootstrap.

What is estimated is the mean over training seeds of a statistic of the test problems. Its variance has two parts:

- Problems. Each replicate redraws the n test problems with replacement; seeds judged on the same problems, and all
  methods, share the draw, so that differences are paired.
- Seeds. Each replicate redraws S - 1 of the S seeds with replacement, which makes the variance of their mean s^2 / S
  and not (S - 1) / S of it (Rao and Wu 1988). Seeds also differ because each has finitely many problems; that share
  of s^2, known from the first part, is taken out (as in an analysis of variance), so nothing is counted twice.

The two deviations are added to the estimate; the interval lies between the 2.5 % and 97.5 % quantiles. With one
seed the second part is absent: the interval then says nothing about training again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REPLICATES = 2000
LEVEL = 0.95
SEED = 20240929


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; NaN where it is of nothing. Arrays share one shape."""

    value: Floats
    low: Floats
    high: Floats

    def __getitem__(self, index: int) -> Interval:
        return Interval(self.value[index], self.low[index], self.high[index])


def problem_counts(ids: Sequence[str], replicates: int = REPLICATES) -> Floats:
    """How often each of the n problems is drawn: (1 + replicates, n), rows adding up to n; row 0 is the data itself.

    The same ``ids`` give the same draws, whatever the method or seed.
    """
    n = len(ids)
    digest = hashlib.sha256("\n".join(ids).encode()).digest()
    rng = np.random.default_rng([SEED, int.from_bytes(digest[:8], "big")])
    drawn = rng.integers(0, n, (replicates, n)) + n * np.arange(replicates)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=replicates * n).reshape(replicates, n)
    return np.concatenate([np.ones((1, n)), counts])


def interval(samples: Floats, limits: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    """The mean over seeds with its interval.

    ``samples`` (1 + B, S, ...): row 0 is the statistic of each seed, the others the same with problems redrawn, the
    draw shared by seeds that share problems. A statistic that is NaN for some seed is NaN. ``limits``: what the
    statistic cannot pass, (0, 1) for a share.
    """
    per_seed = samples[0]
    seeds = len(per_seed)
    value = per_seed.mean(axis=0)
    moved = samples[1:] - per_seed
    deviation = moved.mean(axis=1)
    if seeds > 1:
        rng = np.random.default_rng([SEED, seeds])
        chosen = rng.integers(0, seeds, (len(moved), seeds - 1))
        share = np.sqrt(_between_share(per_seed, moved))
        deviation = deviation + share * (per_seed[chosen].mean(axis=1) - value)
    low, high = _quantiles(deviation)
    return Interval(value, np.clip(value + low, *limits), np.clip(value + high, *limits))


def _between_share(per_seed: Floats, moved: Floats) -> Floats:
    """The share of the variance between seeds that their finite problems do not explain, in [0, 1]."""
    total = per_seed.var(axis=0, ddof=1)
    # Mean variance less mean covariance of the seeds' deviations: what problems alone put between two seeds.
    apart = moved - moved.mean(axis=1, keepdims=True)
    by_problems = np.nansum(apart**2, axis=(0, 1)) / np.maximum(np.isfinite(apart[:, 0]).sum(axis=0), 1)
    by_problems = by_problems / (len(per_seed) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(total > 0, 1 - by_problems / total, 0.0)
    return np.clip(np.nan_to_num(share), 0, 1)


def _quantiles(deviation: Floats) -> tuple[Floats, Floats]:
    """The outer quantiles over axis 0, replicates without a value left out; NaN where none has one."""
    flat = deviation.reshape(len(deviation), -1)
    ends = np.full((2, flat.shape[1]), np.nan)
    whole = np.isfinite(flat).all(axis=0)
    tail = (1 - LEVEL) / 2
    ends[:, whole] = np.quantile(flat[:, whole], (tail, 1 - tail), axis=0)
    for column in np.flatnonzero(~whole & np.isfinite(flat).any(axis=0)):
        ends[:, column] = np.nanquantile(flat[:, column], (tail, 1 - tail))
    shape = deviation.shape[1:]
    return ends[0].reshape(shape), ends[1].reshape(shape)
