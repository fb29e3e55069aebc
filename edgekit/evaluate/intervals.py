"""Confidence intervals of shares, alone and paired. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable

Z = 1.959963984540054
"""The standard normal's 97.5 % quantile: intervals are of 95 %."""
_HALVINGS = 60


def wilson_interval(successes: int, n: int, z: float = Z) -> tuple[float, float]:
    """The confidence interval of a share (Wilson 1927); n >= 1. It never leaves [0, 1]."""
    share, spread = successes / n, z * z / n
    centre = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    return max(0.0, low) if successes else 0.0, min(1.0, high) if successes < n else 1.0


def paired_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a paired difference of two shares, (gained - lost) / n; n >= 1.

    ``gained`` of the n became true, ``lost`` became false, the rest stayed. It is Tango's score interval (Statistics
    in Medicine 17, 1998), widened to the exact one given how many changed at all (Clopper and Pearson 1934): few
    changes speak softly, and the interval excludes 0 only where McNemar's exact test rejects at 5 % too.
    """
    low, high = tango_interval(gained, lost, n)
    changed = gained + lost
    if changed == 0:
        return low, high
    share_low, share_high = clopper_pearson(gained, changed)
    exact_low, exact_high = ((2 * share - 1) * changed / n for share in (share_low, share_high))
    return min(low, exact_low), max(high, exact_high)


def difference_interval(successes: int, n: int, others: int, m: int) -> tuple[float, float]:
    """The 95 % interval of a difference of two independent shares, successes / n less others / m (Newcombe 1998)."""
    share, other = successes / n, others / m
    (low, high), (other_low, other_high) = wilson_interval(successes, n), wilson_interval(others, m)
    below = math.hypot(share - low, other_high - other)
    above = math.hypot(high - share, other - other_low)
    return share - other - below, share - other + above


def tango_interval(gained: int, lost: int, n: int, z: float = Z) -> tuple[float, float]:
    """The differences that the score test of a paired difference does not reject."""
    observed = (gained - lost) / n

    def score(difference: float) -> float:
        b = (2 * n - gained + lost) * difference - gained - lost
        c = -lost * difference * (1 - difference)
        lost_share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)  # its likeliest value at this difference
        variance = n * (2 * lost_share + difference * (1 - difference))
        away = gained - lost - n * difference
        return away / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, away) if away else 0.0

    low = _root(lambda difference: score(difference) - z, -1.0, observed)
    high = _root(lambda difference: score(difference) + z, observed, 1.0)
    return low, high


def clopper_pearson(successes: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """The exact confidence interval of a share: what the binomial test does not reject at ``alpha``, two-sided."""
    low = _root(lambda p: alpha / 2 - _upper_tail(successes, n, p), 0.0, successes / n) if successes else 0.0
    high = _root(lambda p: _upper_tail(n - successes, n, 1 - p) - alpha / 2, successes / n, 1.0)
    return low, high if successes < n else 1.0


def mcnemar_p(gained: int, lost: int) -> float:
    """The two-sided p value of McNemar's exact test: ``gained`` against ``lost`` under a fair coin."""
    changed = gained + lost
    return min(1.0, 2 * _upper_tail(max(gained, lost), changed, 0.5)) if changed else 1.0


def _upper_tail(least: int, n: int, p: float) -> float:
    """P(X >= least) for X binomial (n, p)."""
    if least <= 0 or p >= 1:
        return 1.0
    if p <= 0:
        return 0.0
    logs = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(least, n + 1))
    odds = ((k, each) for k, each in zip(range(least, n + 1), logs, strict=True))
    return min(1.0, sum(math.exp(each + k * math.log(p) + (n - k) * math.log1p(-p)) for k, each in odds))


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where ``falling``, a function that does not rise, passes 0 between ``low`` and ``high``."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2
