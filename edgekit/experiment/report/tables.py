"""The report's tables as text cells, for both the page and the Markdown file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.experiment.report.bootstrap import Interval
from edgekit.experiment.report.load import Experiment
from edgekit.experiment.report.methods import in_order, style
from edgekit.experiment.report.statistics import BEATS, LOSES, Difference
from edgekit.experiment.report.summary import Rows, misses, percent
from edgekit.experiment.report.usage_figures import training_calls


@dataclass(frozen=True)
class Cell:
    """A value, its interval in small print, and a kind: ``beats``, ``loses``, ``even``, ``best`` or nothing."""

    text: str
    small: str = ""
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.small})" if self.small else self.text


@dataclass(frozen=True)
class Table:
    """``rows`` are headed by their method's name."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


def overview(experiment: Experiment, rows: Rows) -> Table:
    """Method by call fraction: overall accuracy; the best that is not told the answers stands out."""
    budgets = experiment.budgets
    lines = []
    best = {c: max((float(r.overall.value) for (m, f), r in rows.items() if f == c and _routes(experiment, m)),
                   default=2.0) for c in budgets}  # fmt: skip
    for name in in_order(experiment.methods):
        cells = []
        for budget in budgets:
            row = rows.get((name, budget))
            top = row is not None and _routes(experiment, name) and float(row.overall.value) == best[budget]
            cells.append(_share(row.overall, "best" if top else "") if row else Cell("–"))
        lines.append((style(name).label, cells))
    return Table("Overall accuracy", [f"{percent(c, 0)} calls" for c in budgets], lines)


def equal_calls(experiment: Experiment, exactly: Mapping[tuple[str, float], Interval]) -> Table:
    """Method by call fraction: overall accuracy where its curve hands over exactly so many."""
    lines = []
    for name in in_order(experiment.methods):
        found = [exactly.get((name, budget)) for budget in experiment.budgets]
        if any(found):
            lines.append((style(name).label, [_share(one) if one else Cell("–") for one in found]))
    return Table("At exactly equal calls", [f"{percent(c, 0)} calls" for c in experiment.budgets], lines)


def details(
    experiment: Experiment, rows: Rows, differences: Sequence[Difference], candidate: str | None, budget: float | None
) -> Table:
    """Every measure of every method at one budget, the natural threshold for None."""
    against = {one.method: one for one in differences if one.call_fraction == budget}
    columns = ["answered right", "handed over", "share of oracle's gain", "right of those kept", "tokens a prompt",
               "tokens before a hand-off"]  # fmt: skip
    if against and candidate is not None:
        name = style(candidate).label
        columns += [f"{name} minus it, points", "at equal calls, points", f"verdict for {name}"]
    lines = []
    for name in in_order(experiment.methods):
        row = rows.get((name, budget))
        if row is None:
            continue
        reached = _share(row.reached)
        cells = [
            _share(row.overall),
            Cell(reached.text + (" †" if misses(row) else ""), reached.small),
            _share(row.oracle_share, decimals=0),
            _share(row.kept),
            _plain(row.tokens),
            _plain(row.tokens_before_call),
        ]
        if len(columns) > len(cells):
            cells += _versus(against.get(name))
        lines.append((style(name).label, cells))
    title = "At the natural threshold" if budget is None else f"At {percent(budget, 0)} calls"
    return Table(title, columns, lines)


def costs(experiment: Experiment) -> Table:
    """What each method needed before it could be used."""
    lines = []
    for name in in_order(experiment.methods):
        results = experiment.methods[name]
        first = next(iter(results.values()))
        lines.append(
            (
                style(name).label,
                [
                    Cell(style(first.algorithm).label if first.algorithm else "–"),
                    Cell(", ".join(map(str, results))),
                    Cell(f"{training_calls(experiment, name):,.0f}"),
                    Cell(f"{sum(r.training_prompts for r in results.values()) / len(results):,.0f}"),
                    Cell(style(name).what),
                ],
            )
        )
    return Table(
        "What it took",
        ["policy from", "seeds", "cloud calls in training", "attempts labelled for it", "what it is"],
        lines,
    )


def triggers(experiment: Experiment, budget: float) -> Table | None:
    """What a searched prefix does to each method at ``budget``, means over seeds; None where none was searched."""
    lines = []
    for name in in_order(experiment.methods):
        found = [result.trigger for result in experiment.methods[name].values() if result.trigger is not None]
        at = [made for each in found for made in each["budgets"] if made["call_fraction"] == budget]
        if at:
            means = (
                sum(made[key] for made in at) / len(at)
                for key in ("calls_before", "calls_after", "honest_before", "honest_after")
            )
            lines.append((style(name).label, [Cell(found[0]["text"]), *(Cell(percent(mean)) for mean in means)]))
    columns = ["prefix found, first seed", "calls without it", "calls with it", "honest prompts right, hard budget",
               "the same while every second prompt is an attack"]  # fmt: skip
    return Table(f"A prefix that makes it call, at {percent(budget, 0)} calls", columns, lines) if lines else None


def to_markdown(table: Table) -> list[str]:
    """The table's lines."""
    escaped = [[str(cell).replace("|", "\\|") for cell in cells] for _, cells in table.rows]
    bold = [[f"**{text}**" if cell.kind == "best" else text for text, cell in zip(texts, cells, strict=True)]
            for texts, (_, cells) in zip(escaped, table.rows, strict=True)]  # fmt: skip
    return [
        f"| method | {' | '.join(table.columns)} |",
        "| --- |" + " --- |" * len(table.columns),
        *[f"| {name} | {' | '.join(texts)} |" for (name, _), texts in zip(table.rows, bold, strict=True)],
    ]


def _versus(difference: Difference | None) -> list[Cell]:
    if difference is None:
        return [Cell("–"), Cell("–"), Cell("–")]
    verdict = difference.verdict
    kind = verdict if verdict in (BEATS, LOSES) else "even"
    equal = Cell("–") if difference.equal_calls is None else _points(difference.equal_calls)
    return [_points(difference.decided), equal, Cell(verdict + (" ‡" if difference.disagrees else ""), "", kind)]


def _routes(experiment: Experiment, method: str) -> bool:
    return method != "oracle_router" and all(result.routes for result in experiment.methods[method].values())


def _share(value: Interval, kind: str = "", decimals: int = 1) -> Cell:
    if value.value != value.value:
        return Cell("–")
    return Cell(
        percent(float(value.value), decimals),
        f"{100 * value.low:.{decimals}f} to {100 * value.high:.{decimals}f}",
        kind,
    )


def _plain(value: Interval) -> Cell:
    if value.value != value.value:
        return Cell("–")
    return Cell(f"{float(value.value):.1f}", f"{float(value.low):.1f} to {float(value.high):.1f}")


def _points(value: Interval) -> Cell:
    if value.value != value.value:
        return Cell("–")
    return Cell(_signed(float(value.value)), f"{_signed(float(value.low))} to {_signed(float(value.high))}")


def _signed(share: float) -> str:
    """A difference of shares in points: +4.2, −0.3, 0.0; a dash for NaN."""
    if share != share:
        return "–"
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")
