"""Intervals: published examples, the tests they invert, and how often they hold the truth."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.evaluate.intervals import (
    Z,
    clopper_pearson,
    mcnemar_p,
    paired_interval,
    tango_interval,
    wilson_interval,
)


def test_published_values() -> None:
    assert wilson_interval(94, 100) == pytest.approx((0.8752, 0.9722), abs=1e-4)
    low, high = wilson_interval(10, 10)
    assert (round(low, 3), high) == (0.722, 1.0)
    assert wilson_interval(0, 3)[0] == 0.0
    assert clopper_pearson(0, 10) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert clopper_pearson(81, 263) == pytest.approx((0.2527, 0.3676), abs=1e-4)
    assert mcnemar_p(5, 0) == pytest.approx(0.0625)
    assert mcnemar_p(1, 9) == pytest.approx(0.0215, abs=1e-4)
    assert mcnemar_p(0, 0) == 1.0


counts = st.integers(0, 60)


@given(counts, counts, st.integers(0, 400))
def test_the_score_interval_is_that_of_mcnemar_s_statistic(gained: int, lost: int, same: int) -> None:
    n = max(1, gained + lost + same)
    low, high = tango_interval(gained, lost, n)
    if gained + lost == 0:
        edge = Z**2 / (n + Z**2)
        assert (low, high) == pytest.approx((-edge, edge))
    else:
        statistic = (gained - lost) ** 2 / (gained + lost)
        if abs(statistic - Z**2) > 1e-6:
            assert (low > 0 or high < 0) == (statistic > Z**2)


@settings(max_examples=200)
@given(counts, counts, st.integers(0, 400))
def test_the_paired_interval_excludes_nought_just_where_the_exact_test_rejects(
    gained: int, lost: int, same: int
) -> None:
    n = max(1, gained + lost + same)
    low, high = paired_interval(gained, lost, n)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    mirrored = paired_interval(lost, gained, n)
    assert (-mirrored[1], -mirrored[0]) == pytest.approx((low, high), abs=1e-9)
    if low > 0 or high < 0:
        assert mcnemar_p(gained, lost) < 0.05
    if mcnemar_p(gained, lost) < 0.04:
        assert low > 0 or high < 0


@pytest.mark.parametrize(("gains", "losses"), [(0.0, 0.0), (0.01, 0.03), (0.1, 0.1), (0.02, 0.2)])
def test_the_paired_interval_holds_the_truth(gains: float, losses: float) -> None:
    source, n, held = random.Random(3), 300, 0
    for _ in range(200):
        draws = [source.random() for _ in range(n)]
        gained = sum(draw < gains for draw in draws)
        lost = sum(gains <= draw < gains + losses for draw in draws)
        low, high = paired_interval(gained, lost, n)
        held += low <= gains - losses <= high
    assert held >= 0.93 * 200
