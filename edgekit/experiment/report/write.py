"""From an experiment folder to report/index.html and report/report.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.atomic_write import write_file
from edgekit.experiment.report.accuracy_figures import accuracy_figure, panels_figure
from edgekit.experiment.report.bootstrap import REPLICATES
from edgekit.experiment.report.comparison_figure import comparison_figure
from edgekit.experiment.report.drawing import NARROW, WIDE, arrange, settings, to_png, to_svg
from edgekit.experiment.report.learning_figure import learning_figure
from edgekit.experiment.report.load import Experiment, load_experiment
from edgekit.experiment.report.methods import in_order, style
from edgekit.experiment.report.statistics import EQUAL, NO_DIFFERENCE, Difference, Statistics
from edgekit.experiment.report.summary import (
    Rows,
    across_budgets,
    candidate_of,
    cautions,
    how_good,
    lead,
    main_budget,
    notes,
    percent,
)
from edgekit.experiment.report.tables import Table, costs, details, equal_calls, overview, to_markdown, triggers
from edgekit.experiment.report.usage_figures import cost_figure, difficulty_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "page.html.j2"
TRIGGERED = (
    "Eight tokens at most before the prompt, searched greedily by scores alone on other problems: what an attacker who "
    "writes part of a prompt reaches at least. The hard budget lets through this share of all prompts, attacks "
    "included; whoever comes when it is spent is answered on the device."
)


EXACTLY = (
    "The table above has the shares of calls that thresholds fitted on validation problems reached on those of the "
    "test, which differ by a few points. Here each method's own curve on the test problems is read at one share: the "
    "fairer comparison, and one that no user can choose beforehand."
)


@dataclass(frozen=True)
class Picture:
    """A figure for wide and narrow pages (SVG) and for Markdown (PNG)."""

    title: str
    caption: str
    wide: str
    narrow: str
    png: bytes


@dataclass(frozen=True)
class Report:
    """What both the page and the Markdown file show."""

    title: str
    lead: str
    more: list[str]
    setting: str
    candidate: str
    cautions: list[str]
    figures: dict[str, Picture]
    overview: Table
    equal_calls: Table
    details: list[Table]
    legend: list[str]
    costs: Table
    triggers: Table | None
    method: list[str]
    notes: list[str]


def write_report(experiment_dir: Path, *, replicates: int = REPLICATES) -> Path:
    """Write report/index.html, self-contained, and report/report.md with its PNGs; returns the page.

    Missing methods, seeds or runs are named in the report, not an error. The same results give the same bytes.
    Raises :class:`EdgekitError` if there is no result or one cannot be read.
    """
    report = make_report(load_experiment(experiment_dir), replicates)
    folder = experiment_dir / "report"
    for name, picture in report.figures.items():
        write_file(folder / f"{name}.png", picture.png)
    write_file(folder / "report.md", to_page_markdown(report))
    page = folder / "index.html"
    write_file(page, to_html(report))
    return page


def make_report(experiment: Experiment, replicates: int) -> Report:
    """Compute and draw everything."""
    statistics = Statistics(experiment, replicates)
    candidate, budget = candidate_of(experiment), main_budget(experiment)
    rows = {
        (name, fraction): row
        for name in in_order(experiment.methods)
        for fraction in (*experiment.budgets, None)
        if (row := statistics.row(name, fraction)) is not None
    }
    rivals = [name for name in in_order(experiment.methods) if name != candidate]
    differences = [
        difference
        for fraction in experiment.budgets
        if candidate is not None
        for difference in statistics.differences(candidate, rivals, fraction)
    ]
    exactly = {
        (name, fraction): accuracy
        for name in experiment.methods
        for fraction in experiment.budgets
        if (accuracy := statistics.at_exactly(name, fraction)) is not None
    }
    fractions = [*experiment.budgets, *([None] if any(fraction is None for _, fraction in rows) else [])]
    fractions.sort(key=lambda fraction: fraction != budget)
    return Report(
        title=f"Experiment {experiment.name}",
        lead=lead(rows, differences, candidate, budget),
        more=[line for line in (how_good(rows, candidate, budget), across_budgets(differences, candidate)) if line],
        setting=_setting(experiment),
        candidate=style(candidate).label if candidate is not None else "",
        cautions=cautions(experiment, rows, differences),
        figures=_draw_all(statistics, rows, differences, candidate, budget),
        overview=overview(experiment, rows),
        equal_calls=equal_calls(experiment, exactly),
        details=[details(experiment, rows, differences, candidate, fraction) for fraction in fractions],
        legend=_legend(style(candidate).label if candidate is not None else ""),
        costs=costs(experiment),
        triggers=triggers(experiment, budget),
        method=_method(replicates),
        notes=notes(experiment),
    )


def to_html(report: Report) -> str:
    """The page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgekit.experiment", "report"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(TEMPLATE).render(vars(report), triggered=TRIGGERED, exactly=EXACTLY)


def to_page_markdown(report: Report) -> str:
    """The same in Markdown."""
    lines = [f"# {report.title}", "", f"**{report.lead}**", "", " ".join(report.more), "", report.setting, ""]
    lines += [f"> {line}\n>" for line in report.cautions] + [""]

    def show(name: str, heading: str = "") -> list[str]:
        picture = report.figures.get(name)
        if picture is None:
            return []
        return [*([f"## {heading}", ""] if heading else []), f"![{picture.title}]({name}.png)", "", picture.caption, ""]

    lines += [*show("accuracy"), f"## {report.overview.title}", "", *to_markdown(report.overview), ""]
    lines += [f"## {report.equal_calls.title}", "", *to_markdown(report.equal_calls), "", EXACTLY, ""]
    lines += show("differences", f"{report.candidate} against each other method")
    lines += [*show("methods", "Each method by itself"), "## Everything measured", ""]
    for table in report.details:
        lines += [f"### {table.title}", "", *to_markdown(table), ""]
    lines += [*[f"- {line}" for line in report.legend], "", *show("difficulty", "Where the calls went")]
    lines += ["## What it costs", "", *show("costs"), *to_markdown(report.costs), ""]
    if report.triggers is not None:
        lines += [f"## {report.triggers.title}", "", *to_markdown(report.triggers), "", TRIGGERED, ""]
    lines += show("learning", "Learning")
    lines += ["## How the numbers were made", "", *[f"- {line}" for line in (*report.method, *report.notes)], ""]
    return "\n".join(lines)


def _draw_all(
    statistics: Statistics, rows: Rows, differences: list[Difference], candidate: str | None, budget: float
) -> dict[str, Picture]:
    experiment = statistics.experiment
    name, at = style(candidate).label if candidate else "", f"Asked for {percent(budget, 0)} calls."
    plans: dict[str, tuple[str, str, Callable[[float], Figure | None]]] = {
        "accuracy": (
            "Accuracy against calls",
            "Each line: overall accuracy as a method's threshold moves. Points: the decisions made at thresholds "
            "calibrated on validation problems, hollow at a policy's natural threshold."
            + (f" Shaded: 95 % interval of {name}." if name else "")
            + " Random and oracle routing are those of the task-tuned policy, where it was trained.",
            lambda width: accuracy_figure(statistics, rows, candidate, width),
        ),
        "differences": (
            "Differences in overall accuracy",
            f"Overall accuracy of {name} less that of each other method at calibrated thresholds, paired by problem "
            "and seed, with 95 % intervals (each by itself; the verdicts are corrected for their number).",
            lambda width: comparison_figure(differences, width) if _has_rivals(differences) else None,
        ),
        "methods": (
            "Each method's curve",
            "Coloured: the method with its 95 % interval." + (f" Thin blue: {name}." if name else "")
            + " Grey: the room between random and oracle routing of the method's own policy.",
            lambda width: panels_figure(statistics, rows, candidate, width),
        ),
        "difficulty": (
            "Calls by difficulty",
            f"{at} Solid: calls that were needed. Striped: calls spent on prompts the policy had right. Crossed: wrong "
            "answers kept that the cloud would have set right. A perfect router has no stripes.",
            lambda width: difficulty_figure(experiment, budget, width),
        ),
        "costs": (
            "Costs",
            f"{at} Tokens the device generated before it answered or handed over; mean over seeds.",
            lambda width: cost_figure(experiment, rows, budget, width),
        ),
        "learning": (
            "Learning curves",
            "Thin: seeds. Thick: their mean; what is measured at every step is averaged over 5 % of the steps. "
            "Rewards of different algorithms are not on one scale.",
            lambda width: learning_figure(experiment.runs, width),
        ),
    }  # fmt: skip
    pictures = {}
    with settings():
        for key, (title, caption, draw) in plans.items():
            wide, narrow = draw(WIDE), draw(NARROW)
            if wide is not None and narrow is not None:
                svgs = to_svg(arrange(wide), f"{key}-wide", title), to_svg(arrange(narrow), f"{key}-narrow", title)
                pictures[key] = Picture(title, caption, *svgs, to_png(wide))
    return pictures


def _has_rivals(differences: list[Difference]) -> bool:
    from edgekit.experiment.report.methods import BOUNDS

    return any(difference.method not in BOUNDS for difference in differences)


def _setting(experiment: Experiment) -> str:
    one = experiment.any_result
    seeds = len(experiment.seeds)
    # A page is passed on: a task of the user's own goes by its file's name, not by its place on this machine.
    task = Path(one.task).name if Path(one.task).is_absolute() else one.task
    return (
        f"Task {task}: {len(one.ids):,} test problems, thresholds calibrated on {one.n_validation:,} validation "
        f"problems; {len(experiment.methods)} methods, {seeds} training seed{'s' if seeds > 1 else ''}."
    )


def _legend(candidate: str) -> list[str]:
    lines = [
        "Share of oracle's gain: (overall − random) / (oracle − random), on the method's own policy at the share it "
        "handed over. It judges the routing alone; overall accuracy judges solving and routing together.",
        "† The interval of the share handed over does not hold the one asked for.",
    ]
    if candidate:
        lines += [
            f"Points: percentage points of overall accuracy, {candidate} minus the method of the row, paired. It "
            "“beats” or “loses” where the test of no difference between the decisions made rejects at 5 % after Holm's "
            "correction for all comparisons of the table, which an interval that leaves out 0 by a little does not "
            f"reach. “{EQUAL}”: the whole interval lies within that. “{NO_DIFFERENCE}” is neither, and no proof.",
            "At equal calls: both curves read at exactly the share asked for. ‡ Judged so, the verdict would differ.",
        ]
    return lines


def _method(replicates: int) -> list[str]:
    return [
        "Thresholds are set on validation problems only; test problems are judged once at each.",
        f"Intervals: 95 %. Problems: the variance over {replicates:,} replicates in which they are redrawn with "
        "replacement, the same draw for all methods and seeds. Seeds: their variance less what the problems explain of "
        "it, by Student's t with S − 1 degrees of freedom.",
    ]
