"""What the numbers say, in sentences: the first thing a reader sees, and what to be careful about."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.experiment.report.bootstrap import Interval
from edgekit.experiment.report.load import Experiment
from edgekit.experiment.report.methods import BOUNDS, CANDIDATE, in_order, is_variant, style
from edgekit.experiment.report.statistics import BEATS, EQUAL, LOSES, NO_DIFFERENCE, Difference, Row

Rows = dict[tuple[str, float | None], Row]
USUAL_BUDGET = 0.3


def candidate_of(experiment: Experiment) -> str | None:
    """The method under test: GAPG, else its first variant, else none."""
    if CANDIDATE in experiment.methods:
        return CANDIDATE
    return next((name for name in in_order(experiment.methods) if is_variant(name)), None)


def main_budget(experiment: Experiment) -> float:
    """The call fraction the page leads with: the one nearest to 30 %."""
    return min(experiment.budgets, key=lambda budget: (abs(budget - USUAL_BUDGET), budget))


def lead(rows: Rows, differences: Sequence[Difference], candidate: str | None, budget: float) -> str:
    """The one sentence: which rivals the candidate beats at ``budget``, or how good it is if it has none."""
    if candidate is None or (candidate, budget) not in rows:
        return _best_of(rows, budget)
    name, verdicts = style(candidate).label, _verdicts(differences, budget)
    if any(verdicts.values()):
        return f"At {percent(budget, 0)} cloud calls, {name} {_in_words(verdicts)}."
    overall = rows[candidate, budget].overall
    return f"At {percent(budget, 0)} cloud calls, {name} gets {with_interval(overall)} right."


def how_good(rows: Rows, candidate: str | None, budget: float) -> str:
    """One sentence: the candidate's accuracy, calls and share of the oracle's gain, and the best rival's accuracy."""
    if candidate is None or (candidate, budget) not in rows:
        return ""
    row = rows[candidate, budget]
    said = (
        f"{style(candidate).label} gets {with_interval(row.overall)} right, having handed over "
        f"{percent(float(row.reached.value))} of prompts"
    )
    if row.oracle_share.value == row.oracle_share.value:
        said += f": {percent(float(row.oracle_share.value), 0)} of what an oracle router would gain over chance"
    rivals = [other for (name, fraction), other in rows.items() if fraction == budget and is_rival(name)]
    if rivals:
        best = max(rivals, key=lambda other: float(other.overall.value))
        said += f"; the best other method is {style(best.method).label} with {percent(float(best.overall.value))}"
    return said + "."


def across_budgets(differences: Sequence[Difference], candidate: str | None) -> str:
    """One sentence on all call fractions; empty with fewer than two."""
    budgets = sorted({difference.call_fraction for difference in differences})
    rivals = [difference for difference in differences if is_rival(difference.method)]
    if candidate is None or len(budgets) < 2 or not rivals:
        return ""
    tally = {kind: sum(one.verdict == kind for one in rivals) for kind in (BEATS, EQUAL, NO_DIFFERENCE, LOSES)}
    equal = f"{tally[EQUAL]} are {EQUAL}, " if tally[EQUAL] else ""
    return (
        f"Over all {len(budgets)} call fractions, of {len(rivals)} comparisons {style(candidate).label} wins "
        f"{tally[BEATS]}, loses {tally[LOSES]}, {equal}and in {tally[NO_DIFFERENCE]} no difference was found."
    )


def is_rival(method: str) -> bool:
    """A method that chooses prompts, and is not the candidate under other settings."""
    return method not in BOUNDS and method != CANDIDATE and not is_variant(method)


def cautions(experiment: Experiment, rows: Rows, differences: Sequence[Difference]) -> list[str]:
    """What a reader must know before believing the numbers."""
    said = []
    seeds = experiment.seeds
    if len(seeds) == 1:
        said.append(
            "One training seed: the intervals are over test problems only and say nothing about training again."
        )
    wanted = experiment.config.get("methods")
    missing = [name for name in wanted or [] if isinstance(name, str) and name not in experiment.methods]
    if missing:
        said.append(f"Not there yet: {', '.join(style(name).label for name in missing)}.")
    fewer = {
        name: sorted(set(seeds) - set(results))
        for name, results in experiment.methods.items()
        if set(results) != set(seeds)
    }
    for name in in_order(fewer):
        said.append(f"{style(name).label} lacks seed {', '.join(map(str, fewer[name]))}; its rows are over the others.")
    off = [
        f"{style(name).label} at {percent(fraction, 0)} ({percent(float(row.reached.value))})"
        for (name, fraction), row in rows.items()
        if fraction is not None and name not in BOUNDS and misses(row)
    ]
    if off:
        said.append(f"The share of calls reached on test differs from the one asked for: {'; '.join(off)}.")
    moved = [one for one in differences if is_rival(one.method) and one.disagrees]
    if moved:
        named = "; ".join(f"{style(one.method).label} at {percent(one.call_fraction, 0)}" for one in moved)
        said.append(f"Compared at exactly equal calls, another verdict: {named}.")
    return said


def misses(row: Row) -> bool:
    """Whether a method that could reach the fraction asked for did not, by its interval."""
    asked = row.call_fraction
    return asked is not None and row.method not in BOUNDS[:2] and not row.reached.low <= asked <= row.reached.high


def notes(experiment: Experiment) -> list[str]:
    """The results' own notes, each once, after the methods that carry it."""
    carriers: dict[str, list[str]] = {}
    for name in in_order(experiment.methods):
        own = {seed: result.notes for seed, result in experiment.methods[name].items() if result.notes}
        alike = len(set(own.values())) == 1
        note = next(iter(own.values())) if alike else " ".join(f"Seed {seed}: {text}" for seed, text in own.items())
        if note:
            carriers.setdefault(note, []).append(style(name).label)
    return [f"{_listed(labels)}: {note}" for note, labels in carriers.items()]


def percent(share: float, decimals: int = 1) -> str:
    """A share as text: 94.4 %; a dash for NaN."""
    return "–" if share != share else f"{100 * share:.{decimals}f} %"


def with_interval(share: Interval) -> str:
    """A share with its interval: 94.4 % (95 % interval 93.1 to 95.6)."""
    return f"{percent(float(share.value))} (95 % interval {100 * share.low:.1f} to {100 * share.high:.1f})"


def _verdicts(differences: Sequence[Difference], budget: float) -> dict[str, list[str]]:
    at = [one for one in differences if one.call_fraction == budget and is_rival(one.method)]
    return {
        kind: [style(one.method).label for one in at if one.verdict == kind]
        for kind in (BEATS, EQUAL, NO_DIFFERENCE, LOSES)
    }


def _in_words(verdicts: dict[str, list[str]]) -> str:
    total = sum(map(len, verdicts.values()))
    beaten, equal, even, better = (verdicts[kind] for kind in (BEATS, EQUAL, NO_DIFFERENCE, LOSES))
    if len(beaten) == total:
        return f"beats all {total} other methods" if total > 1 else f"beats {beaten[0]}"
    parts = [f"beats {len(beaten)} of {total} other methods" if beaten else "beats no other method"]
    if equal:
        parts.append(f"is {EQUAL} with {_listed(equal)}")
    if better:
        parts.append(f"loses to {_listed(better)}")
    said = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    return f"{said}; {NO_DIFFERENCE} from {_listed(even)}" if even else said


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _best_of(rows: Rows, budget: float) -> str:
    routing = [row for (name, fraction), row in rows.items() if fraction == budget and name not in BOUNDS]
    if not routing:
        return f"No method that routes has results at {percent(budget, 0)} cloud calls yet."
    best = max(routing, key=lambda row: float(row.overall.value))
    return (
        f"At {percent(budget, 0)} cloud calls, of {len(routing)} methods that route {style(best.method).label} gets "
        f"most right: {with_interval(best.overall)} with {percent(float(best.reached.value))} of prompts handed over."
    )
