"""Adaptive prompt filtering: which prompts of a batch may update the policy.

The filter looks at the very responses that then update the policy, so what is kept is no fair sample: the update's
expectation is no longer the gradient of the mean reward. D1's groups are those that happened to hold a right answer, in
which calling is the worse choice; D2's are the others, which teach calling, and of them some are dropped. A prompt that
is answered rightly with probability .05 and called with .2, in groups of 4 with rewards 1 and .25: its call logit's
gradient is .030; with 60 % of D2 kept the update expects .0165, with none -.004 (tests/train/test_filter_bias.py
enumerates it). That pull away from calling is what holds the budget. Weighing by ``inverse_chance`` undoes it in
expectation, and with it the budget's hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KeptPrompts:
    """Indices into the batch: ``d1`` teaches solving; ``d2``, drawn from ``d2_candidates``, teaches asking.

    ``rest`` are prompts that neither side is known to answer: only an algorithm without a filter keeps them.
    """

    d1: tuple[int, ...]
    d2_candidates: tuple[int, ...]
    d2: tuple[int, ...]
    rest: tuple[int, ...] = ()

    @property
    def inverse_chance(self) -> float:
        """One over the chance of a candidate of D2 to be kept, given the batch; 1 where none is or none was dropped."""
        return len(self.d2_candidates) / len(self.d2) if self.d2 else 1.0

    @property
    def indices(self) -> tuple[int, ...]:
        """All that are kept, in batch order."""
        return tuple(sorted(self.d1 + self.d2 + self.rest))


def call_ratio(call_fraction: float) -> float:
    """rho, cloud calls per local answer, of a share ``call_fraction`` in [0, 1) of all prompts."""
    return call_fraction / (1 - call_fraction)


def filter_prompts(
    solved: Sequence[bool], cloud_correct: Sequence[bool], call_fraction: float, *, seed: int
) -> KeptPrompts:
    """Keep D1 and at most floor(rho |D1|) of D2.

    ``solved[i]``: some response to prompt i is a right local answer. ``cloud_correct[i]``: the cloud
    answers it rightly. Prompts neither side answers are dropped; which D2 prompts stay is drawn from ``seed``.
    """
    d1, candidates = _kinds(solved, cloud_correct)
    # The small term keeps exact ratios exact: 3/7 of 7 is 3, however the floats round.
    room = math.floor(call_ratio(call_fraction) * len(d1) + 1e-9)
    if room >= len(candidates):
        return KeptPrompts(d1, candidates, candidates)
    chosen = np.random.default_rng(seed).choice(len(candidates), size=room, replace=False)
    return KeptPrompts(d1, candidates, tuple(candidates[index] for index in sorted(chosen)))


def keep_all(solved: Sequence[bool], cloud_correct: Sequence[bool]) -> KeptPrompts:
    """Keep every prompt, sorted into the same kinds; arguments as for :func:`filter_prompts`."""
    d1, candidates = _kinds(solved, cloud_correct)
    rest = set(range(len(solved))) - {*d1, *candidates}
    return KeptPrompts(d1, candidates, candidates, tuple(sorted(rest)))


def _kinds(solved: Sequence[bool], cloud_correct: Sequence[bool]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    d1 = tuple(index for index, right in enumerate(solved) if right)
    return d1, tuple(index for index, right in enumerate(solved) if not right and cloud_correct[index])
