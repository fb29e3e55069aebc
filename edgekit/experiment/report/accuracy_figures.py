"""Overall accuracy against the share of prompts handed off: all methods in one plot, and each in its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.experiment.report.drawing import (
    WIDE,
    as_percent,
    draw_band,
    draw_point,
    new_figure,
    panel_grid,
    spread,
)
from edgekit.experiment.report.methods import DOTTED, INK, MUTED, STYLES, Style, in_order, is_variant, style
from edgekit.experiment.report.statistics import GRID, Row, Statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANDOM = Style("Random hand-off", MUTED, DOTTED, "", "")
Rows = dict[tuple[str, float | None], Row]


def accuracy_figure(statistics: Statistics, rows: Rows, candidate: str | None, width: float) -> Figure:
    """Every method's curve; points are the decisions made, hollow at the natural threshold."""
    experiment = statistics.experiment
    routing = [name for name in in_order(experiment.methods) if statistics.curve(name) is not None]
    drawn = [name for name in routing if name not in ("naive_offloading", "oracle_router")]
    rivals = [name for name in drawn if not is_variant(name) or name == "gapg_early"]
    drawn = rivals if len(rivals) > 1 else drawn
    wide = width >= WIDE
    figure = new_figure(width, 5.2 if wide else 5.9)
    axes = figure.subplots()
    right = min(1.0, max(experiment.budgets) + 0.1)
    ends = _draw_references(axes, statistics, drawn)
    for name in reversed(drawn):
        curve, look = statistics.curve(name), style(name)
        assert curve is not None
        if name == candidate:
            draw_band(axes, GRID, curve, look, 2.8, 0.18)
        else:
            axes.plot(GRID, curve.value, color=look.colour, ls=look.line, lw=1.5)
        ends.append((look, curve.value))
    _draw_decisions(axes, rows, [*drawn, *(n for n in ("naive_offloading",) if n in routing)])
    ends += _draw_fixed(axes, rows, routing)
    _limit(axes, [curve for _, curve in ends], right)
    axes.set(xlabel="share of prompts handed to the cloud", ylabel="answered right, device and cloud together")
    as_percent(axes.xaxis)
    as_percent(axes.yaxis)
    if wide:
        _label_ends(axes, ends, right)
    else:
        _legend(figure, [look for look, _ in ends])
    return figure


def panels_figure(statistics: Statistics, rows: Rows, candidate: str | None, width: float) -> Figure | None:
    """A panel a method: its curve with its band, its policy's room between random and oracle, the candidate's curve.

    None if no method routes.
    """
    names = [name for name in in_order(statistics.experiment.methods) if statistics.curve(name) is not None]
    names = [name for name in names if name != "oracle_router"]
    if not names:
        return None
    figure, panels = panel_grid(len(names), width, head=0.5, line=1.95 if width >= WIDE else 1.9)
    right = min(1.0, max(statistics.experiment.budgets) + 0.1)
    own = statistics.curve(candidate) if candidate is not None else None
    shown = []
    for axes, name in zip(panels, names, strict=True):
        curve, (random, oracle) = statistics.curve(name), statistics.references(name)
        assert curve is not None
        axes.fill_between(GRID, random, oracle, color=MUTED, alpha=0.10, lw=0)
        if own is not None and name != candidate:
            axes.plot(GRID, own.value, color=STYLES["gapg"].colour, lw=1.0, alpha=0.75)
        draw_band(axes, GRID, curve, style(name), 2.0, 0.25)
        _draw_decisions(axes, rows, [name], 5.5)
        axes.set_title(style(name).label)
        as_percent(axes.xaxis)
        as_percent(axes.yaxis)
        shown += [random, oracle, curve.value]
    _limit(panels[0], shown, right)
    figure.supxlabel("share of prompts handed to the cloud", fontsize=9)
    figure.supylabel("answered right", fontsize=9)
    return figure


def _draw_references(axes: Axes, statistics: Statistics, drawn: list[str]) -> list[tuple[Style, np.ndarray]]:
    """Oracle and random routing of the task-tuned policy, or of the first method's where there is none."""
    methods = statistics.experiment.methods
    base = next((n for n in ("task_only", "naive_offloading", "oracle_router", *drawn) if n in methods), None)
    if base is None:
        return []
    random, oracle = statistics.references(base)
    styles = [style("oracle_router") if base in STYLES else style(base), RANDOM]
    for look, curve in zip(styles, (oracle, random), strict=True):
        axes.plot(GRID, curve, color=look.colour, ls=look.line, lw=1.3)
    return list(zip(styles, (oracle, random), strict=True))


def _draw_decisions(axes: Axes, rows: Rows, names: list[str], size: float = 6.5) -> None:
    for (name, fraction), row in rows.items():
        if name in names:
            draw_point(
                axes, float(row.reached.value), float(row.overall.value), style(name), size, hollow=fraction is None
            )


def _draw_fixed(axes: Axes, rows: Rows, routing: list[str]) -> list[tuple[Style, np.ndarray]]:
    """Methods without a choice: a point where nothing is handed off, a line across where everything is."""
    ends = []
    for name in in_order({name for name, _ in rows} - set(routing)):
        row = next(row for (other, _), row in rows.items() if other == name)
        x, y, look = float(row.reached.value), float(row.overall.value), style(name)
        if x < 0.5:
            look = Style(look.label, INK, "", "o", "")
            draw_point(axes, x, y, look, 5)
        else:
            look = Style(look.label, INK, "-", "", "")
            axes.axhline(y, color=INK, lw=0.8)
        ends.append((look, np.full_like(GRID, y)))
    return ends


def _limit(axes: Axes, curves: list[np.ndarray], right: float) -> None:
    """Axes that show what lies in [0, right] and no more."""
    seen = np.concatenate([curve[right + 1e-9 >= GRID] for curve in curves])
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    room = 0.04 * max(high - low, 0.02)
    axes.set(xlim=(-0.012 * right, right), ylim=(low - room, min(high + room, 1 + room)))


def _label_ends(axes: Axes, ends: list[tuple[Style, np.ndarray]], right: float) -> None:
    """Each curve's name at its right end, with a piece of its line; names move apart, a thin line leads to each."""
    low, high = axes.get_ylim()
    at = [float(np.interp(right, GRID, curve)) for _, curve in ends]
    places = spread(at, (high - low) * 0.055, low, high)
    sample, text = right * 1.035, right * 1.105
    for (look, _), y, place in zip(ends, at, places, strict=True):
        if look.line:
            axes.plot([right, sample], [y, place], color=look.colour, lw=0.6, clip_on=False)
            end = text - 0.01 * right
            axes.plot([sample, end], [place] * 2, color=look.colour, ls=look.line, lw=1.8, clip_on=False)
        if look.marker not in ("", "+"):
            middle = (sample + text) / 2 - 0.005 * right
            axes.plot([middle], [place], look.marker, color=look.colour, ms=5, clip_on=False)
        weight = "bold" if look is STYLES["gapg"] else "normal"
        axes.text(text, place, look.label, va="center", fontsize=8.8, fontweight=weight)


def _legend(figure: Figure, looks: list[Style]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=look.colour, ls=look.line or "none", marker=look.marker.replace("+", ""), ms=5, lw=1.6)
        for look in reversed(looks)
    ]
    figure.legend(
        handles, [look.label for look in reversed(looks)], loc="outside lower center", ncols=2, handlelength=3.4
    )
