"""The numbers of the report: one row a method and call fraction, paired differences, curves, all with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgekit.evaluate.bounds import oracle_accuracy, random_accuracy
from edgekit.experiment.report.bootstrap import LEVEL, REPLICATES, Interval, holm, interval, p_value, problem_counts
from edgekit.experiment.report.curves import accuracy_curve
from edgekit.experiment.report.load import Decisions, Experiment, Floats, Result

CURVE_REPLICATES = 500
GRID = np.linspace(0, 1, 101)
"""The call fractions at which curves are computed."""
TINY = 1e-9
SHARE, ANY = (0.0, 1.0), (-np.inf, np.inf)

MARGIN = 0.01
"""Two methods are called equal if the whole interval of their difference lies within so much, one point."""

BEATS, LOSES, NOT_KNOWN = "beats", "loses", "not known"
EQUAL, NO_DIFFERENCE = f"equal within {100 * MARGIN:g} point", "no difference found"


@dataclass(frozen=True)
class Row:
    """A method at one budget, None at its natural threshold; the mean over ``seeds``.

    Shares in [0, 1]. ``oracle_share``: (overall - random) / (oracle - random) on the method's own policy at the
    fraction it reached. ``tokens_before_call``: device tokens of the prompts handed off.
    """

    method: str
    call_fraction: float | None
    seeds: tuple[int, ...]
    overall: Interval
    reached: Interval
    oracle_share: Interval
    kept: Interval
    tokens: Interval
    tokens_before_call: Interval


@dataclass(frozen=True)
class Difference:
    """The candidate's overall accuracy less a rival's, paired by problem and seed.

    ``decided``: as each was calibrated. ``equal_calls``: both curves read at exactly the same call fraction; None
    if either has no curve. ``verdict`` is about ``decided``, ``verdict_at_equal_calls`` about the other; both are
    given by :func:`judged`, which sees all comparisons of a table.
    """

    method: str
    call_fraction: float
    seeds: tuple[int, ...]
    decided: Interval
    equal_calls: Interval | None
    verdict: str = NOT_KNOWN
    verdict_at_equal_calls: str = NOT_KNOWN

    @property
    def disagrees(self) -> bool:
        """Whether one of the two verdicts names a winner that the other does not."""
        both = {self.verdict, self.verdict_at_equal_calls}
        return NOT_KNOWN not in both and len(both) > 1 and both != {EQUAL, NO_DIFFERENCE}


def judged(differences: Sequence[Difference]) -> list[Difference]:
    """``differences``, all comparisons of one table, with their verdicts; Holm's correction is over all of them."""
    decided = verdicts([difference.decided for difference in differences])
    equal = verdicts([difference.equal_calls for difference in differences])
    return [
        replace(difference, verdict=one, verdict_at_equal_calls=other)
        for difference, one, other in zip(differences, decided, equal, strict=True)
    ]


def verdicts(differences: Sequence[Interval | None]) -> list[str]:
    """What each of a family of differences from 0 says.

    ``beats`` or ``loses`` where the test of no difference, corrected for the family's size, rejects at 5 %; ``equal``
    where it does not and the whole interval lies within :data:`MARGIN`; else no difference was found, which is no proof
    that there is none. ``not known`` of what is no number.
    """
    adjusted = holm([float("nan") if one is None else p_value(one) for one in differences])
    return [NOT_KNOWN if one is None else _verdict(one, p) for one, p in zip(differences, adjusted, strict=True)]


def _verdict(difference: Interval, adjusted_p: float) -> str:
    if not np.isfinite(adjusted_p):
        return NOT_KNOWN
    if adjusted_p < 1 - LEVEL:
        return BEATS if difference.value > 0 else LOSES
    return EQUAL if difference.low >= -MARGIN and difference.high <= MARGIN else NO_DIFFERENCE


class Statistics:
    """Computes from one experiment; keeps the problem draws and curve samples it has already made."""

    def __init__(self, experiment: Experiment, replicates: int = REPLICATES) -> None:
        self.experiment = experiment
        self.replicates = replicates
        self._drawn: dict[tuple[str, ...], Floats] = {}
        self._sampled_means: dict[tuple[str, int, float | None], dict[str, Floats]] = {}
        self._sampled_curves: dict[tuple[str, int], Floats] = {}

    def row(self, method: str, call_fraction: float | None) -> Row | None:
        """The method's row; None if no seed has such decisions."""
        results = self.experiment.methods[method].values()
        made = [result for result in results if decisions_at(result, call_fraction) is not None]
        if not made:
            return None
        means = [self._means(result, call_fraction) for result in made]

        def over_seeds(of: Callable[[dict[str, Floats]], Floats], limits: tuple[float, float] = SHARE) -> Interval:
            return interval(np.stack([of(one) for one in means], axis=1), limits)

        return Row(
            method, call_fraction, tuple(result.seed for result in made),
            overall=over_seeds(lambda m: m["correct"]),
            reached=over_seeds(lambda m: m["calls"]),
            oracle_share=over_seeds(_oracle_share, ANY),
            kept=over_seeds(lambda m: _ratio(m["kept_correct"], 1 - m["calls"])),
            tokens=over_seeds(lambda m: m["tokens"], ANY),
            tokens_before_call=over_seeds(lambda m: _ratio(m["tokens_of_calls"], m["calls"]), ANY),
        )  # fmt: skip

    def differences(self, candidate: str, rivals: Sequence[str], call_fraction: float) -> list[Difference]:
        """``candidate`` less each of ``rivals`` that has a seed in common with it, judged as one family."""
        found = [self._difference(candidate, rival, call_fraction) for rival in rivals]
        return judged([difference for difference in found if difference is not None])

    def _difference(self, candidate: str, rival: str, call_fraction: float) -> Difference | None:
        """``candidate`` less ``rival`` on the seeds both have; None if there is none."""
        ours, theirs = self.experiment.methods[candidate], self.experiment.methods[rival]
        seeds = [s for s in ours if s in theirs and all(call_fraction in r.budgets for r in (ours[s], theirs[s]))]
        if not seeds:
            return None
        pairs = [[self._means(results[s], call_fraction)["correct"] for results in (ours, theirs)] for s in seeds]
        decided = interval(np.stack([own - other for own, other in pairs], axis=1))
        equal = None
        if all(result.routes for s in seeds for result in (ours[s], theirs[s])):
            gaps = [_at(call_fraction, self._curves(ours[s]) - self._curves(theirs[s])) for s in seeds]
            equal = interval(np.stack(gaps, axis=1))
        return Difference(rival, call_fraction, tuple(seeds), decided, equal)

    def curve(self, method: str) -> Interval | None:
        """Overall accuracy (101,) at the fractions of ``GRID``; None for a method that does not route."""
        results = self.experiment.methods[method].values()
        if not all(result.routes for result in results):
            return None
        return interval(np.stack([self._curves(result) for result in results], axis=1), SHARE)

    def at_exactly(self, method: str, call_fraction: float) -> Interval | None:
        """Overall accuracy of the method's curve at ``call_fraction``; None for a method that does not route."""
        results = self.experiment.methods[method].values()
        if not all(result.routes for result in results):
            return None
        return interval(np.stack([_at(call_fraction, self._curves(result)) for result in results], axis=1), SHARE)

    def references(self, method: str) -> tuple[Floats, Floats]:
        """Random and oracle routing (101,) of the method's own policy over ``GRID``, mean over seeds."""
        both = []
        for result in self.experiment.methods[method].values():
            local, cloud = result.local_correct, result.cloud_correct
            alone, right = local.mean(), cloud.mean()
            oracle = oracle_accuracy(alone, (cloud & ~local).mean(), (local & ~cloud).mean(), GRID)
            both.append((random_accuracy(alone, right, GRID), oracle))
        random, oracle = np.mean(both, axis=0)
        return random, oracle

    def _counts(self, ids: tuple[str, ...]) -> Floats:
        if ids not in self._drawn:
            self._drawn[ids] = problem_counts(ids, self.replicates)
        return self._drawn[ids]

    def _means(self, result: Result, call_fraction: float | None) -> dict[str, Floats]:
        """Every mean over problems that the statistics are made of, each (1 + B,)."""
        key = (result.method, result.seed, call_fraction)
        if key not in self._sampled_means:
            made = decisions_at(result, call_fraction)
            assert made is not None
            local, cloud = result.local_correct, result.cloud_correct
            columns = {
                "correct": made.correct,
                "calls": made.calls,
                "kept_correct": made.correct & ~made.calls,
                "tokens": made.device_tokens,
                "tokens_of_calls": made.device_tokens * made.calls,
                "local": local,
                "cloud": cloud,
                "helps": cloud & ~local,
                "harms": local & ~cloud,
            }
            matrix = np.stack([column.astype(np.float64) for column in columns.values()], axis=1)
            means = self._counts(result.ids) @ matrix / len(result.ids)
            self._sampled_means[key] = dict(zip(columns, means.T, strict=True))
        return self._sampled_means[key]

    def _curves(self, result: Result) -> Floats:
        """The curve of the data and of the redrawn problems: (1 + CURVE_REPLICATES, 101)."""
        key = (result.method, result.seed)
        if key not in self._sampled_curves:
            counts = self._counts(result.ids)[: 1 + CURVE_REPLICATES]
            sampled = accuracy_curve(result.scores, result.local_correct, result.cloud_correct, counts, GRID)
            self._sampled_curves[key] = sampled
        return self._sampled_curves[key]


def decisions_at(result: Result, call_fraction: float | None) -> Decisions | None:
    """The decisions made for this budget, or at the natural threshold for None."""
    return result.natural if call_fraction is None else result.budgets.get(call_fraction)


def _at(fraction: float, curves: Floats) -> Floats:
    """``curves`` (B, 101) over ``GRID`` read at ``fraction``: (B,)."""
    place = round(fraction * (len(GRID) - 1), 9)  # 0.29 times 100 is a little less than 29
    below = min(int(place), len(GRID) - 2)
    return curves[:, below] * (below + 1 - place) + curves[:, below + 1] * (place - below)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """NaN where the whole is nothing."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > TINY)


def _oracle_share(means: dict[str, Floats]) -> Floats:
    """NaN where an oracle could gain nothing over chance: no calls, all calls, no wrong answers."""
    random = random_accuracy(means["local"], means["cloud"], means["calls"])
    oracle = oracle_accuracy(means["local"], means["helps"], means["harms"], means["calls"])
    return _ratio(means["correct"] - random, oracle - random)
