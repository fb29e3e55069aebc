"""The candidate against every rival: paired differences with their intervals, a panel a call fraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.experiment.report.drawing import PAPER, WIDE, new_figure
from edgekit.experiment.report.methods import BLUE, BOUNDS, INK, MUTED, VERMILLION, in_order, style
from edgekit.experiment.report.statistics import BEATS, EQUAL, LOSES, NO_DIFFERENCE, NOT_KNOWN, Difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Colour, marker and fill each say the verdict.
LOOKS = {BEATS: (BLUE, "o", BLUE), LOSES: (VERMILLION, "s", VERMILLION), NO_DIFFERENCE: (MUTED, "D", PAPER)}
LOOKS |= {EQUAL: (MUTED, "D", MUTED), NOT_KNOWN: LOOKS[NO_DIFFERENCE]}


def comparison_figure(differences: Sequence[Difference], width: float) -> Figure:
    """Right of the line the candidate is better. The bounds are left out: they would stretch the scale."""
    names = in_order({difference.method for difference in differences} - set(BOUNDS))
    budgets = sorted({difference.call_fraction for difference in differences})
    columns = min(len(budgets), 4 if width >= WIDE else 2)
    lines = -(-len(budgets) // columns)
    figure = new_figure(width, 0.9 + (0.45 + 0.24 * len(names)) * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, budget in zip(panels, budgets, strict=False):
        axes.axvline(0, color=INK, lw=1)
        for difference in differences:
            if difference.call_fraction == budget and difference.method in names:
                _draw(axes, names.index(difference.method), difference)
        axes.set_title(f"{100 * budget:g} % calls")
        axes.grid(axis="y", visible=False)
    panels[0].set(yticks=range(len(names)), yticklabels=[style(name).label for name in names])
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    for axes in panels[len(budgets) :]:
        axes.set_visible(False)
    figure.supxlabel("percentage points of overall accuracy", fontsize=9)
    handles = [_handle(verdict) for verdict in (BEATS, EQUAL, NO_DIFFERENCE, LOSES)]
    figure.legend(handles, [str(handle.get_label()) for handle in handles], loc="outside upper right", ncols=4)
    return figure


def _draw(axes: Axes, place: int, difference: Difference) -> None:
    colour, marker, fill = LOOKS[difference.verdict]
    gap = difference.decided
    low, value, high = (100 * float(end) for end in (gap.low, gap.value, gap.high))
    axes.plot([low, high], [place, place], color=colour, lw=1.6, solid_capstyle="butt")
    axes.plot([value], [place], marker, color=colour, mfc=fill, ms=5.5, mew=1.3)


def _handle(verdict: str) -> Line2D:
    from matplotlib.lines import Line2D

    colour, marker, fill = LOOKS[verdict]
    return Line2D([], [], color=colour, marker=marker, mfc=fill, mew=1.3, ms=5.5, lw=1.6, label=verdict)
