"""What ``edgekit export --search`` found, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from edgekit.workflows.search import Found

SHOWN = 8


def frontier_table(found: Found) -> Table:
    """One row per recipe, smallest first; a star marks the frontier, an arrow the chosen one."""
    from edgekit.verify.parity import wilson_interval

    table = Table()
    for heading in ("recipe", "MB", "same decision", "95 % interval", "same text", "calls", "tokens/s here"):
        name = heading == "recipe"  # whole, however narrow the terminal: it is what --recipe takes
        table.add_column(heading, justify="left" if name else "right", no_wrap=name)
    for point in found.points:
        mark = "> " if point.recipe.name == found.chosen.name else "* " if point.on_frontier else "  "
        speed = "-" if point.tokens_per_s is None else f"{point.tokens_per_s:.0f}"
        low, high = wilson_interval(round(point.decision_agreement * point.n), point.n)
        table.add_row(
            f"{mark}{point.recipe.name}",
            f"{point.mb:.2f}",
            f"{point.decision_agreement:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{point.text_agreement:.1%}",
            f"{point.call_fraction:.1%}",
            speed,
        )
    return table


def sensitivity_table(found: Found) -> Table:
    """The groups that save the most divergence per megabyte; a star where the chosen recipe gives them 8 bits."""
    table = Table(title=f"8 bits pay here first, of {len(found.sensitivities)} groups")
    for heading in ("weights", "divergence", "margin moves", "MB more", "divergence per MB"):
        table.add_column(heading, justify="left" if heading == "weights" else "right")
    chosen = found.chosen.quantize.rules
    for item in sorted(found.sensitivities, key=lambda item: item.worth, reverse=True)[:SHOWN]:
        mark = "* " if set(item.group.finer) <= set(chosen) else "  "
        numbers = (f"{item.divergence:.5f}", f"{item.margin_shift:.3f}", f"{item.extra_mb:.3f}", f"{item.worth:.5f}")
        table.add_row(f"{mark}{item.group.name}", *numbers)
    return table
