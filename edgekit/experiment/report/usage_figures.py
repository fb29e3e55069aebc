"""Where each method's calls went, and what its decisions cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.experiment.report.accuracy_figures import Rows
from edgekit.experiment.report.drawing import PAPER, WIDE, as_percent, new_figure, panel_grid
from edgekit.experiment.report.load import Experiment, Floats, Result
from edgekit.experiment.report.methods import BLUE, BOUNDS, INK, ORANGE, VERMILLION, in_order, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What became of a prompt that was called, or should have been: label, colour, hatch.
FATES = (
    ("called, wrong alone", BLUE, ""),
    ("called, right alone: wasted", ORANGE, "////"),
    ("kept, wrong, the cloud knew", PAPER, "xxxx"),
)


def difficulties(experiment: Experiment) -> list[str]:
    """The difficulties, by number if they are numbers, else the easiest for the policies first."""
    results = [result for seeds in experiment.methods.values() for result in seeds.values()]
    names = sorted({name for result in results for name in result.difficulty})
    if all(name.isdecimal() for name in names):
        return sorted(names, key=int)
    right = {name: _share_right(results, name) for name in names}
    return sorted(names, key=lambda name: -right[name])


def calls_by_difficulty(experiment: Experiment, method: str, budget: float) -> Floats | None:
    """Shares (difficulties, 3) of the problems of each difficulty with each of ``FATES``; mean over seeds.

    Every seed's problems of a difficulty are pooled. None if no seed has this budget.
    """
    totals = np.zeros((len(difficulties(experiment)), 4))
    for result in experiment.methods[method].values():
        made = result.budgets.get(budget)
        if made is None:
            continue
        called, local = made.calls, result.local_correct
        fates = np.stack([called & ~local, called & local, ~called & ~local & result.cloud_correct, called | ~called])
        for place, name in enumerate(difficulties(experiment)):
            totals[place] += fates[:, np.array([own == name for own in result.difficulty])].sum(axis=1)
    return totals[:, :3] / np.maximum(totals[:, 3:], 1) if totals[:, 3].any() else None


def difficulty_figure(experiment: Experiment, budget: float, width: float) -> Figure | None:
    """A panel a method: per difficulty, what was called and what should have been. None if no method routes."""
    shares = {name: calls_by_difficulty(experiment, name, budget) for name in in_order(experiment.methods)}
    shown = {name: share for name, share in shares.items() if share is not None and name not in BOUNDS[:2]}
    if not shown:
        return None
    figure, panels = panel_grid(len(shown), width, head=0.9, line=1.75)
    names = difficulties(experiment)
    long = max(map(len, names)) * len(names) > 16
    for axes, (method, share) in zip(panels, shown.items(), strict=True):
        bottom = np.zeros(len(names))
        for (label, colour, hatch), height in zip(FATES, share.T, strict=True):
            edge = VERMILLION if colour == PAPER else PAPER
            axes.bar(names, height, 0.74, bottom, color=colour, hatch=hatch, edgecolor=edge, linewidth=0.8, label=label)
            bottom += height
        axes.set_title(style(method).label)
        axes.grid(axis="x", visible=False)
        as_percent(axes.yaxis)
        axes.tick_params(axis="x", labelrotation=60 if long else 0)
    figure.supxlabel("difficulty", fontsize=9)
    figure.supylabel("share of that difficulty's problems", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3 if width >= WIDE else 1)
    return figure


def cost_figure(experiment: Experiment, rows: Rows, budget: float, width: float) -> Figure:
    """Device tokens a prompt, device tokens before a hand-off, cloud calls in training: a line a method."""
    names = [name for name in in_order(experiment.methods) if (name, budget) in rows and name != "oracle_router"]
    columns = (
        ("device tokens a prompt", [float(rows[name, budget].tokens.value) for name in names]),
        ("device tokens before a hand-off", [float(rows[name, budget].tokens_before_call.value) for name in names]),
        ("cloud calls in training", [training_calls(experiment, name) for name in names]),
    )
    wide = width >= WIDE
    height = 0.5 + 0.25 * len(names)
    figure = new_figure(width, height if wide else 3 * height)
    panels = figure.subplots(*((1, 3) if wide else (3, 1)), sharey=True)
    for axes, (title, values) in zip(panels, columns, strict=True):
        _lollipops(axes, names, values)
        axes.set_title(title)
    return figure


def training_calls(experiment: Experiment, method: str) -> float:
    """Cloud calls spent in training, mean over seeds."""
    return float(np.mean([result.cloud_calls_in_training for result in experiment.methods[method].values()]))


def _lollipops(axes: Axes, names: Sequence[str], values: Sequence[float]) -> None:
    top = max((value for value in values if np.isfinite(value)), default=0.0) or 1.0
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        look = style(name)
        known = np.isfinite(value)
        if known:
            axes.plot([0, value], [place, place], color=look.colour, lw=2.2, solid_capstyle="butt")
            axes.plot([value], [place], "o", color=look.colour, ms=6)
        whole = value >= 100 or value == round(value, 0)
        text = (f"{value:,.0f}" if whole else f"{value:.1f}") if known else "no hand-off"
        axes.text((value if known else 0) + 0.035 * top, place, text, va="center", fontsize=8.5, color=INK)
    axes.set(xlim=(0, 1.24 * top), ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(range(len(names)), [style(name).label for name in names])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def _share_right(results: Sequence[Result], name: str) -> float:
    right = [
        hit
        for result in results
        for hit, own in zip(result.local_correct, result.difficulty, strict=True)
        if own == name
    ]
    return float(np.mean(right))
