"""Holding a method to a share of cloud calls: a threshold on its scores, fitted on validation problems only.

A score of +inf is a prompt that goes to the cloud whatever the threshold: the policy's attempt ended without an
answer (routing.json's ``on_no_answer``). Such calls count against the budget of every method alike.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from edgekit.errors import EdgekitError
from edgekit.evaluate.calibrate import bias_for
from edgekit.tasks.base import Problem

LOWEST = -1e9
"""Stands for a score of -inf: no threshold reaches it, yet it can be written and subtracted."""


def fit_threshold(validation_scores: Sequence[float], call_fraction: float) -> float:
    """The threshold above which ``call_fraction`` of the validation scores lie, midway to the next score.

    Where equal scores stand astride it none of them calls: a method stays below its budget rather than above.
    """
    return -bias_for(validation_scores, call_fraction)


def hands_off(scores: Sequence[float], threshold: float) -> list[bool]:
    """Which prompts go to the cloud. The same sum as a marker's margin and bias, so the same rounding."""
    return [score + -threshold > 0 for score in scores]


def with_forced(scores: Sequence[float], forced: Sequence[bool], method: str) -> list[float]:
    """``scores`` (n,), +inf where ``forced``. Raises :class:`EdgekitError` where a method gave NaN or +inf itself."""
    bad = [score for score in scores if math.isnan(score) or score == math.inf]
    if bad:
        raise EdgekitError(f"bad score: {bad[0]} by {method}. A threshold cannot order it. Check the router.")
    return [math.inf if must else max(score, LOWEST) for score, must in zip(scores, forced, strict=True)]


def random_scores(problems: Sequence[Problem], seed: int) -> list[float]:
    """A number in [0, 1) for each problem, from its id and ``seed`` alone."""
    digests = (hashlib.sha256(f"offload/{seed}/{problem.id}".encode()).digest() for problem in problems)
    return [int.from_bytes(digest[:6], "big") / 2**48 for digest in digests]


def oracle_scores(
    problems: Sequence[Problem], local_correct: Sequence[bool], cloud_correct: Sequence[bool], seed: int
) -> list[float]:
    """What handing off gains, from the truth: wrong here and right there first, the reverse last; ties at random."""
    order = random_scores(problems, seed)
    return [int(there) - int(here) + tie for here, there, tie in zip(local_correct, cloud_correct, order, strict=True)]
