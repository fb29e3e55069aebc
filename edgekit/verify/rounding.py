"""How far rounding alone explains what an artifact decides otherwise. Pure functions, no model."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.evaluate.intervals import mcnemar_p

CHANCE = 0.05
"""So seldom may chance have it that an artifact which only rounds otherwise flips more than its reference shakes."""


def within_reach(flips: Sequence[float], shifts: Sequence[float], near_margin: float) -> float:
    """Below which margin a flip may be the work of rounding: ``near_margin``, or more where the reference shakes.

    Of each of n prompts (or steps): ``flips``, how far from the threshold the artifact's farthest flip lay (0: none),
    and ``shifts``, how far rounding alone moved a margin of the reference; empty if nobody looked. No flip beyond the
    largest shift is explained. Nor are many by few: were the artifact but another rounding, which of the two reaches
    as far on a prompt would be the throw of a coin, so flips of any depth are explained until they win too often
    (McNemar's exact test). One prompt that shakes excuses a few others, not all of them.
    """
    reach = max(near_margin, max(shifts, default=0.0))
    for depth in sorted({flip for flip in flips if near_margin <= flip < reach}, reverse=True):
        both = [(flip >= depth, shift >= depth) for flip, shift in zip(flips, shifts, strict=True)]
        flipped, shaken = sum(a and not b for a, b in both), sum(b and not a for a, b in both)
        if flipped > shaken and mcnemar_p(flipped, shaken) < CHANCE:
            reach = depth
    return reach
