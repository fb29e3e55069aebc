"""What all figures share: their two widths, axes, and their way into a page (SVG that follows its colours) or a PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgekit.experiment.report.bootstrap import Interval
from edgekit.experiment.report.methods import BLUE, GREEN, GRID, INK, MUTED, ORANGE, PURPLE, SKY, VERMILLION, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = 9.2, 4.5
"""Inches: a screen or a printed page, and a phone, where the same letters must stay legible."""

PAPER = "#FEFEFD"
COLOUR_NAMES = {
    INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", BLUE: "blue", SKY: "sky", GREEN: "green",
    ORANGE: "orange", VERMILLION: "vermillion", PURPLE: "purple",
}  # fmt: skip
"""The page's CSS variable for each colour: a dark page has its own."""

_SETTINGS: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED,
    "text.parse_math": False,  # methods are called what a user calls them
    "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelsize": 9,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "grid.color": GRID, "grid.linewidth": 0.8, "axes.grid": True,
    "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none",
    "legend.frameon": False, "legend.fontsize": 8.5, "hatch.linewidth": 0.7, "svg.hashsalt": "edgekit",
}  # fmt: skip


def settings() -> Any:
    """The figures' matplotlib settings, as a context; the caller's are restored after it."""
    import matplotlib

    return matplotlib.rc_context(_SETTINGS)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, without any global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def panel_grid(count: int, width: float, *, head: float, line: float, most: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels with shared axes, at most ``most`` in a line, two on a narrow page.

    ``head`` and ``line``: inches that all of it and each line of panels take. In each column the last has the labels.
    """
    columns = min(most if width >= WIDE else 2, count)
    lines = -(-count // columns)
    figure = new_figure(width, head + line * lines)
    panels = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes in panels[max(count - columns, 0) : count]:
        axes.tick_params(labelbottom=True)
    return figure, panels[:count]


def arrange(figure: Figure) -> Figure:
    """Place everything once and for all: otherwise each saving does it again, which takes longer than drawing."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def to_png(figure: Figure) -> bytes:
    """On white, for Markdown. The same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: Figure, name: str, description: str) -> str:
    """One ``<svg>`` to stand inside HTML: scales with the page, takes its colours, refers to nothing outside.

    ``name`` must be unique in the page: it keeps the ids of several figures apart.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    for colour, variable in COLOUR_NAMES.items():
        svg = svg.replace(colour.lower(), f"var(--{variable})")
    svg = re.sub(r'<svg width="[^"]*" height="[^"]*"', "<svg", svg, count=1)
    # Hundredths of a point are enough for outlines, and half the size.
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path.group()), svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{_escape(description)}"', 1)


def draw_band(axes: Axes, x: Any, curve: Interval, style: Style, width: float = 1.6, opacity: float = 0.15) -> None:
    """A curve in its method's line with its interval behind it."""
    axes.fill_between(x, curve.low, curve.high, color=style.colour, alpha=opacity, lw=0)
    axes.plot(x, curve.value, color=style.colour, ls=style.line, lw=width)


def draw_point(axes: Axes, x: float, y: float, style: Style, size: float = 6, hollow: bool = False) -> None:
    """A method's marker."""
    stroked = style.marker in "x+_"
    axes.plot(
        [x], [y], style.marker, ms=size, color=style.colour, zorder=5,
        mec=style.colour if hollow or stroked else PAPER, mew=1.4 if hollow or stroked else 0.7,
        mfc=PAPER if hollow else style.colour,
    )  # fmt: skip


def as_percent(axis: Any) -> None:
    """Shares on this axis read as percentages."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near ``wanted`` but at least ``gap`` apart within [low, high], order kept: labels that do not overlap.

    Neighbours that collide form a block centred on the mean of what they wanted (least squares).
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    blocks: list[list[float]] = []  # [sum of wanted places, each less its offset within the block; size]
    for index in order:
        blocks.append([wanted[index], 1])
        while len(blocks) > 1 and _start(blocks[-2], gap, low, high) + gap * blocks[-2][1] > _start(
            blocks[-1], gap, low, high
        ):
            total, size = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total - gap * blocks[-1][1] * size, blocks[-1][1] + size]
    placed = [_start(block, gap, low, high) + gap * k for block in blocks for k in range(int(block[1]))]
    result = [0.0] * len(wanted)
    for index, place in zip(order, placed, strict=True):
        result[index] = place
    return result


def _start(block: list[float], gap: float, low: float, high: float) -> float:
    total, size = block
    return min(max(total / size, low), high - gap * (size - 1))


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
