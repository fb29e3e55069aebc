"""Curves, intervals and verdicts of an experiment's report, against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.evaluate.bounds import oracle_accuracy, random_accuracy
from edgekit.experiment.report.bootstrap import Interval, holm, interval, p_value, problem_counts
from edgekit.experiment.report.curves import accuracy_curve
from edgekit.experiment.report.statistics import (
    BEATS,
    EQUAL,
    GRID,
    NO_DIFFERENCE,
    NOT_KNOWN,
    Difference,
    judged,
    verdicts,
)
from edgekit.experiment.report.tables import _points

RNG = np.random.default_rng(0)
LOCAL, CLOUD = RNG.random(50) < 0.6, RNG.random(50) < 0.8
ONE = np.ones((1, 50))


def test_a_score_that_knows_the_answers_gives_the_oracle_s_curve_and_none_gives_chance() -> None:
    gain = CLOUD.astype(float) - LOCAL
    helps, harms = (gain > 0).mean(), (gain < 0).mean()
    oracle = oracle_accuracy(LOCAL.mean(), helps, harms, GRID)
    np.testing.assert_allclose(accuracy_curve(gain, LOCAL, CLOUD, ONE, GRID)[0], oracle, atol=1e-12)
    chance = random_accuracy(LOCAL.mean(), CLOUD.mean(), GRID)
    np.testing.assert_allclose(accuracy_curve(np.zeros(50), LOCAL, CLOUD, ONE, GRID)[0], chance, atol=1e-12)
    assert oracle[0] == pytest.approx(LOCAL.mean())
    assert oracle[-1] == pytest.approx(CLOUD.mean())


def test_a_curve_is_the_accuracy_of_each_threshold_tried_by_hand() -> None:
    scores = np.array([2.0, 2.0, 1.0, -1.0])
    local, cloud = np.array([True, False, False, True]), np.array([True, True, True, False])
    curve = accuracy_curve(scores, local, cloud, np.ones((1, 4)), np.array([0, 0.25, 0.5, 0.75, 1]))
    assert curve[0].tolist() == [0.5, 0.625, 0.75, 1.0, 0.75]


def test_below_the_share_that_is_always_called_there_is_no_curve() -> None:
    scores = np.where(np.arange(50) < 10, np.inf, RNG.normal(size=50))
    curve = accuracy_curve(scores, LOCAL, CLOUD, ONE, GRID)[0]
    assert np.isnan(curve[:20]).all()
    assert not np.isnan(curve[20:]).any()


def test_a_resample_counts_as_the_same_problems_written_out() -> None:
    scores = RNG.normal(size=50).round(1)
    counts = problem_counts([str(i) for i in range(50)], 3)
    curves = accuracy_curve(scores, LOCAL, CLOUD, counts, GRID)
    for count, curve in zip(counts, curves, strict=True):
        again = np.repeat(np.arange(50), count.astype(int))
        written = accuracy_curve(scores[again], LOCAL[again], CLOUD[again], ONE, GRID)[0]
        np.testing.assert_allclose(curve, written, atol=1e-12)


@pytest.mark.parametrize("right", [120, 300, 470])
def test_the_interval_of_one_seed_is_about_wilson_s(right: int) -> None:
    n, z = 500, 1.96
    hits = np.arange(n) < right
    made = interval((problem_counts([str(i) for i in range(n)]) @ hits / n)[:, None])
    p = right / n
    middle, half = (p + z * z / 2 / n), z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    assert made.low == pytest.approx((middle - half) / (1 + z * z / n), abs=0.005)
    assert made.high == pytest.approx((middle + half) / (1 + z * z / n), abs=0.005)


def of_size(value: float, half: float) -> Interval:
    """The interval of one seed, ``half`` wide to each side."""
    variance = (half / 1.959963984540054) ** 2
    ends = (value, value - half, value + half, variance, 0.0)
    return Interval(*(np.array(end) for end in ends), seeds=1)


def test_what_is_no_number_is_no_verdict() -> None:
    nothing, even, better = of_size(np.nan, np.nan), of_size(0.0, 0.1), of_size(0.2, 0.1)
    assert verdicts([nothing, even, better, None]) == [NOT_KNOWN, NO_DIFFERENCE, BEATS, NOT_KNOWN]
    assert not judged([Difference("a", 0.3, (0,), better, nothing)])[0].disagrees
    assert not judged([Difference("a", 0.3, (0,), better, None)])[0].disagrees
    assert judged([Difference("a", 0.3, (0,), better, even)])[0].disagrees
    assert not judged([Difference("a", 0.3, (0,), of_size(0.0, 0.005), even)])[0].disagrees
    assert (str(_points(nothing)), str(_points(of_size(0.042, 0.01)))) == ("–", "+4.2 (+3.2 to +5.2)")


def test_equal_is_said_only_of_an_interval_within_the_margin() -> None:
    near, wide, off = of_size(0.001, 0.008), of_size(0.001, 0.012), of_size(0.005, 0.006)
    assert verdicts([near]) == [EQUAL]
    assert verdicts([wide]) == verdicts([off]) == [NO_DIFFERENCE]


def test_a_p_value_is_the_level_whose_interval_ends_at_nought() -> None:
    assert p_value(of_size(0.1, 0.1)) == pytest.approx(0.05, abs=1e-6)
    assert p_value(of_size(-0.1, 0.1)) == pytest.approx(0.05, abs=1e-6)
    assert p_value(of_size(0.0, 0.1)) == 1.0
    assert np.isnan(p_value(of_size(np.nan, 0.1)))
    only_seeds = Interval(*map(np.array, (4.302653, 0.0, 0.0, 0.0, 1.0)), seeds=3)  # Student's t of 2: 4.302653 at 5 %
    assert p_value(only_seeds) == pytest.approx(0.05, abs=1e-6)


def test_holm_corrects_for_the_size_of_the_family_and_nan_is_no_member() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, np.nan]) == pytest.approx([0.02, np.nan], nan_ok=True)
    barely = of_size(0.1, 0.09)  # p = .03: alone it beats, one of two it does not
    assert verdicts([barely]) == [BEATS]
    assert verdicts([barely, of_size(0.0, 0.1)]) == [NO_DIFFERENCE, NO_DIFFERENCE]
