"""How often the experiment's intervals hold the truth, by simulation: two-way random effects, problems by seeds."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.experiment.report.bootstrap import interval, p_value, problem_counts

TRIALS, PROBLEMS, REPLICATES = 1500, 100, 300
COMMON, OWN = 0.5, 0.5
"""Standard deviations: of what all seeds find hard, and of what a seed makes of a problem by itself."""


def simulated(seeds: int, ratio: float) -> np.ndarray:
    """Per-seed means (1 + B, S, trials) whose truth is 0; the seeds' own variance is ``ratio`` times the problems'."""
    rng = np.random.default_rng([20, seeds, int(10 * ratio)])
    by_problems = COMMON**2 / PROBLEMS + OWN**2 / (PROBLEMS * seeds)
    of_seeds = rng.normal(0, np.sqrt(ratio * by_problems * seeds), (1, seeds, TRIALS))
    cells = rng.normal(0, COMMON, (PROBLEMS, 1, TRIALS)) + rng.normal(0, OWN, (PROBLEMS, seeds, TRIALS)) + of_seeds
    counts = problem_counts([str(i) for i in range(PROBLEMS)], REPLICATES)
    drawn = counts @ cells.reshape(PROBLEMS, -1) / PROBLEMS
    return drawn.reshape(1 + REPLICATES, seeds, TRIALS)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("ratio", [0.0, 1.0, 4.0])
def test_95_percent_intervals_hold_the_truth_in_93_to_97_percent_of_experiments(seeds: int, ratio: float) -> None:
    made = interval(simulated(seeds, ratio))
    assert 0.93 <= np.mean((made.low <= 0) & (made.high >= 0)) <= 0.97


def test_more_spread_between_seeds_widens_the_interval_and_three_seeds_more_than_five() -> None:
    width = {(s, r): float(np.median(np.ptp([made.low, made.high], axis=0)))
             for s in (3, 5) for r in (0.0, 4.0) if (made := interval(simulated(s, r)))}  # fmt: skip
    assert width[3, 4.0] > width[5, 4.0] > 1.5 * width[5, 0.0]


def test_the_test_of_no_difference_rejects_just_where_the_interval_leaves_nought_out() -> None:
    samples = simulated(3, 1.0)[:, :, :12]
    for trial in range(samples.shape[2]):
        made = interval(samples[:, :, trial])
        assert (p_value(made) < 0.05) == (not made.low <= 0 <= made.high)
