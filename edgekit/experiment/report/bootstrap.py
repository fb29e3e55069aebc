"""Confidence intervals and tests over problems and seeds at once: problems by a bootstrap, seeds by Student's t.

What is estimated is the mean over S training seeds of a statistic of the same n test problems. Its variance has two
parts, as of crossed random effects:

- Problems. Each replicate redraws the n test problems with replacement; seeds and methods share the draw, so that
  differences are paired. The variance over replicates of the mean over seeds is this part.
- Seeds. s^2 / S, where s^2 is the variance between seeds. Seeds also differ because each has finitely many problems;
  that share, known from the replicates, is taken out, so nothing is counted twice. Where more is taken out than is
  there, this part is nought.

The first is known from many problems, the second from S - 1 degrees of freedom, three or five numbers. So each gets a
quantile of its own, and the squares are added (Banerjee, Sankhya 22, 1960, for means whose variances differ):

    half^2 = z^2 * problems + t(S - 1)^2 * seeds

Simulated, 95 % intervals hold the truth in 93 to 97 % of experiments for 3 and 5 seeds, whether seeds vary not at all,
as much as problems or more (tests/experiment/test_coverage.py). With one seed the second part is absent: the interval
then says nothing about training again.
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
    """An estimate with its confidence interval; NaN where it is of nothing. Arrays share one shape.

    ``by_problems`` and ``by_seeds`` are the two parts of its variance, ``seeds`` how many there are.
    """

    value: Floats
    low: Floats
    high: Floats
    by_problems: Floats
    by_seeds: Floats
    seeds: int


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
    draw shared by all seeds. A statistic that is NaN for some seed is NaN; replicates without a value are left out.
    ``limits``: what the statistic cannot pass, (0, 1) for a share.
    """
    per_seed, moved = samples[0], samples[1:] - samples[0]
    value, seeds = per_seed.mean(axis=0), len(per_seed)
    by_problems = _mean_square(moved.mean(axis=1))
    by_seeds = np.zeros_like(value)
    if seeds > 1:
        # Mean variance less mean covariance of the seeds' deviations: what problems alone put between two seeds.
        apart = _mean_square(moved - moved.mean(axis=1, keepdims=True)).sum(axis=0) / (seeds - 1)
        by_seeds = np.maximum(per_seed.var(axis=0, ddof=1) - apart, 0.0) / seeds
    half = _half_width(by_problems, by_seeds, seeds, 1 - LEVEL)
    low, high = np.clip(value - half, *limits), np.clip(value + half, *limits)
    return Interval(value, low, high, by_problems, by_seeds, seeds)


def p_value(estimate: Interval) -> float:
    """Of the test that a scalar ``estimate`` is 0, two-sided: the least level that leaves 0 out; NaN of NaN."""
    size = abs(float(estimate.value))
    if not np.isfinite([size, float(estimate.by_problems), float(estimate.by_seeds)]).all():
        return float("nan")
    low, high = -40.0, 0.0  # of log10 p
    for _ in range(60):
        middle = (low + high) / 2
        half = _half_width(estimate.by_problems, estimate.by_seeds, estimate.seeds, 10.0**middle)
        low, high = (low, middle) if half < size else (middle, high)
    return float(10.0**high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for how many there are (Holm 1979): each below a level where the family's error stays below it.

    NaN is no test: it stays NaN and does not count.
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if not np.isnan(p))
    adjusted, least = [float("nan")] * len(p_values), 0.0
    for rank, (p, place) in enumerate(order):
        least = max(least, min(1.0, p * (len(order) - rank)))
        adjusted[place] = least
    return adjusted


def _half_width(by_problems: Floats, by_seeds: Floats, seeds: int, level: float) -> Floats:
    from scipy.stats import norm, t

    squared = norm.isf(level / 2) ** 2 * by_problems
    if seeds > 1:
        squared = squared + t.isf(level / 2, seeds - 1) ** 2 * by_seeds
    return np.sqrt(squared)


def _mean_square(deviations: Floats) -> Floats:
    """Over axis 0, the replicates, those without a value left out; NaN where none has one."""
    found = np.isfinite(deviations)
    total = np.where(found, deviations, 0.0) ** 2
    with np.errstate(invalid="ignore"):
        return total.sum(axis=0) / found.sum(axis=0)
