"""The recipes that a search tried: which of them nothing beats, which one to take, and a picture of them all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekit.errors import CheckFailed
from edgekit.recipes.export_recipe import ExportRecipe

BLUE, ORANGE = "#0072B2", "#E69F00"


@dataclass(frozen=True)
class Point:
    """A recipe tried. ``mb`` is counted, 10^6 bytes; agreements are with the float policy on ``n`` prompts.

    ``text_agreement``: share of prompts with the very same tokens. ``tokens_per_s``: decoding, measured on this
    host; None where the recipe was not lowered. ``called``, ``same_decision``, ``same_text``: what became of each
    prompt, a digit each, 1 for yes.
    """

    recipe: ExportRecipe
    mb: float
    n: int
    decision_agreement: float
    text_agreement: float
    call_fraction: float
    called: str
    same_decision: str
    same_text: str
    tokens_per_s: float | None = None
    on_frontier: bool = False

    def to_json(self) -> dict[str, Any]:
        """The point as JSON data, its recipe whole."""
        return {"name": self.recipe.name, **asdict(self), "recipe": self.recipe.model_dump(mode="json")}


def mark_frontier(points: Sequence[Point]) -> list[Point]:
    """``points`` by size, with those marked that no other beats: none as small agrees more, none smaller as much."""
    ordered = sorted(points, key=lambda point: (point.mb, -_worth(point)[0], -_worth(point)[1]))
    best: tuple[float, float] = (-1.0, -1.0)
    marked = []
    for point in ordered:
        marked.append(replace(point, on_frontier=_worth(point) > best))
        best = max(best, _worth(point))
    return marked


def _worth(point: Point) -> tuple[float, float]:
    return point.decision_agreement, point.text_agreement


def choose(points: Sequence[Point], max_mb: float | None, min_tokens_per_s: float | None) -> Point:
    """The point of the frontier that keeps the most decisions within the budget, the smaller of equals.

    Raises :class:`CheckFailed` if none fits.
    """
    fitting = [
        point
        for point in points
        if point.on_frontier
        and (max_mb is None or point.mb <= max_mb)
        and (min_tokens_per_s is None or (point.tokens_per_s or 0.0) >= min_tokens_per_s)
    ]
    if not fitting:
        asked = [] if max_mb is None else [f"at most {max_mb:g} MB"]
        asked += [] if min_tokens_per_s is None else [f"at least {min_tokens_per_s:g} tokens a second"]
        smallest = min(points, key=lambda point: point.mb)
        raise CheckFailed(
            f"no recipe fits the budget: {', '.join(asked)}. The smallest has {smallest.mb:.1f} MB. Ask for less."
        )
    return max(fitting, key=lambda point: (*_worth(point), -point.mb))


def draw_frontier(points: Sequence[Point], target: str) -> bytes:
    """A PNG: decision agreement against megabytes, the frontier joined, each point named."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    best = [point for point in points if point.on_frontier]
    rest = [point for point in points if not point.on_frontier]
    for group, style, colour, label in ((best, "o-", BLUE, "the frontier"), (rest, "s", ORANGE, "beaten")):
        xs, ys = [point.mb for point in group], [100 * point.decision_agreement for point in group]
        axes.plot(xs, ys, style, color=colour, label=label, ms=7)
        for point, x, y in zip(group, xs, ys, strict=True):
            speed = f", {point.tokens_per_s:.0f} tokens/s" if point.tokens_per_s else ""
            name = point.recipe.name.removeprefix(f"{target}_")
            axes.annotate(
                f"{name}{speed}", (x, y), xytext=(5, -11), textcoords="offset points", fontsize=7, parse_math=False
            )
    axes.set(xlabel="artifact, MB", ylabel="same decision as the float policy, %")
    axes.set_title(f"{target}, {points[0].n} held-out prompts", fontsize=10)
    axes.legend(fontsize=8, loc="lower right")
    axes.margins(x=0.18, y=0.12)  # room for the names
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140)
    return buffer.getvalue()
