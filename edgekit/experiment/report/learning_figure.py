"""Learning curves of every algorithm, from the runs' metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.experiment.report.drawing import WIDE, as_percent, new_figure
from edgekit.experiment.report.load import Floats
from edgekit.experiment.report.methods import in_order, style
from edgekit.record_lines import is_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Run = Sequence[Mapping[str, Any]]
SMOOTHED_OVER = 0.05
"""The share of the steps over which a noisy curve is averaged, on either side together."""
FEW = 8
"""Up to this many measurements are shown as points too."""

# Title, key in metrics.jsonl, whether it is a share, whether it is measured every step (and so noisy), or summed up.
PANELS = (
    ("mean reward of samples", "reward", False, "noisy"),
    ("held out: right alone", "eval_local_accuracy", True, "exact"),
    ("held out: share called", "eval_call_fraction", True, "exact"),
    ("D1: prompts solved by a sample", "d1", False, "noisy"),
    ("D2: prompts kept to teach asking", "d2", False, "noisy"),
    ("cloud calls so far", "cloud_calls", False, "summed"),
)


def learning_figure(runs: Mapping[str, Mapping[int, Run]], width: float) -> Figure | None:
    """Seeds thin, their mean thick; None if no run has any of the metrics."""
    from matplotlib.ticker import MaxNLocator

    panels = [panel for panel in PANELS if any(_series(run, panel[1])[0].size for run in _all(runs))]
    if not panels:
        return None
    columns = min(3 if width >= WIDE else 2, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(width, 0.6 + (2.1 if width >= WIDE else 1.9) * lines)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (title, key, share, kind) in zip(grid, panels, strict=False):
        for algorithm in reversed(in_order(runs)):
            look = style(algorithm)
            curves = [_shaped(*_series(run, key), kind) for run in runs[algorithm].values()]
            curves = [curve for curve in curves if curve[0].size]
            if len(curves) > 1:
                for steps, values in curves:
                    axes.plot(steps, values, color=look.colour, lw=0.6, alpha=0.45)
            if curves:
                steps, values = _mean(curves)
                marker = look.marker if len(steps) <= FEW else ""
                axes.plot(steps, values, color=look.colour, ls=look.line, marker=marker, lw=2.0, ms=5, label=look.label)
        axes.set_title(title)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_ylim(bottom=0 if kind == "summed" or key in ("d1", "d2") else None)
        if share:
            as_percent(axes.yaxis)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel("step", fontsize=9)
    by_label = {line.get_label(): line for axes in grid for line in axes.get_legend_handles_labels()[0]}
    labels = [label for name in in_order(runs) if (label := style(name).label) in by_label]
    figure.legend(
        [by_label[label] for label in labels], labels, loc="outside upper left", ncols=6 if width >= WIDE else 2
    )
    return figure


def _all(runs: Mapping[str, Mapping[int, Run]]) -> list[Run]:
    return [run for seeds in runs.values() for run in seeds.values()]


def _series(run: Run, key: str) -> tuple[Floats, Floats]:
    """Steps at which ``key`` was measured, and its values."""
    pairs = [(line["step"], line[key]) for line in run if is_number(line.get(key))]
    steps, values = np.array(pairs, np.float64).reshape(-1, 2).T
    return steps, values


def _shaped(steps: Floats, values: Floats, kind: str) -> tuple[Floats, Floats]:
    """Summed up, or averaged over a centred window that shrinks at the ends."""
    if kind == "summed":
        return steps, np.cumsum(values)
    half = int(len(values) * SMOOTHED_OVER / 2) if kind == "noisy" else 0
    if half == 0:
        return steps, values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    return steps, (sums[high] - sums[low]) / (high - low)


def _mean(curves: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """The mean over seeds at the steps all of them have."""
    steps = curves[0][0]
    for others, _ in curves[1:]:
        steps = np.intersect1d(steps, others)
    return steps, np.mean([values[np.isin(own, steps)] for own, values in curves], axis=0)
