"""``edgekit export --search``: the recipes tried, as a table, a file and a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.table import Table

from edgekit.cli.source import training_prompts
from edgekit.cli.terminal import policy_folder

if TYPE_CHECKING:
    from edgekit.export.recipe import ExportRecipe
    from edgekit.export.search import Point

SENSITIVITY_PROMPTS = 48


@dataclass(frozen=True)
class Budget:
    """What the artifact may weigh and must reach; ``n`` held-out prompts decide which recipe is best."""

    max_mb: float | None
    min_tokens_per_s: float | None
    n: int


def search_recipes(
    source: Path, plain: ExportRecipe, task: str, budget: Budget, say: Callable[[str], None]
) -> tuple[list[Point], ExportRecipe]:
    """Every recipe tried, the frontier's members measured on this host, and the best within ``budget``.

    Raises CheckFailed if none fits.
    """
    from edgekit.export.search import candidates, choose, evaluate
    from edgekit.policy.checkpoint import load_policy
    from edgekit.tasks import get_task

    policy = load_policy(policy_folder(source))
    training = training_prompts(task, plain.quantize.calibration_prompts)
    held_out = [problem.prompt for problem in get_task(task).problems("validation", budget.n, seed=1)]
    recipes = candidates(policy, plain, training[:SENSITIVITY_PROMPTS], say)
    points = evaluate(policy, recipes, training, held_out, say)
    points = [_timed(source, point, training, say) if point.on_frontier else point for point in points]
    return points, choose(points, budget.max_mb, budget.min_tokens_per_s).recipe


def _timed(source: Path, point: Point, training: Sequence[str], say: Callable[[str], None]) -> Point:
    """``point`` with its artifact's decode speed; exported for the purpose and thrown away."""
    from edgekit.bundle.load import open_bundle
    from edgekit.export.pipeline import export
    from edgekit.simulate.measure import measure

    with TemporaryDirectory() as folder:
        say(f"measuring {point.recipe.name}")
        calibration = training[: point.recipe.quantize.calibration_prompts]
        bundle = export(source, point.recipe, Path(folder) / "b", prompts=[], calibration_prompts=calibration)
        return replace(point, tokens_per_s=measure(open_bundle(bundle), repeats=3)["decode_tokens_per_s"])


def write_frontier(points: Sequence[Point], target: str, bundle: Path) -> list[Path]:
    """``BUNDLE.frontier.json`` and ``.png``, beside the bundle (whose own files are pinned)."""
    from edgekit.atomic_write import write_file
    from edgekit.export.search import draw_frontier

    table, picture = (bundle.with_name(f"{bundle.name}.frontier.{ending}") for ending in ("json", "png"))
    write_file(table, json.dumps(frontier_json(points), indent=2) + "\n")
    write_file(picture, draw_frontier(points, target))
    return [table, picture]


def frontier_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The points as JSON data, smallest first."""
    return [point.to_json() for point in points]


def frontier_table(points: Sequence[Point], chosen: str) -> Table:
    """One row per recipe, smallest first; a star marks the frontier, an arrow the chosen one."""
    table = Table()
    for heading in ("recipe", "MB", "same decision", "same text", "calls", "tokens/s"):
        table.add_column(heading, justify="left" if heading == "recipe" else "right")
    for point in points:
        mark = "> " if point.recipe.name == chosen else "* " if point.on_frontier else "  "
        speed = "-" if point.tokens_per_s is None else f"{point.tokens_per_s:.0f}"
        shares = (point.decision_agreement, point.text_agreement, point.call_fraction)
        table.add_row(f"{mark}{point.recipe.name}", f"{point.mb:.2f}", *(f"{100 * s:.1f} %" for s in shares), speed)
    return table
