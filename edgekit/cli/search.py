"""``edgekit export --search``: the recipes tried, as tables, a file and a picture."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.table import Table

from edgekit.cli.source import training_prompts
from edgekit.cli.terminal import policy_folder

if TYPE_CHECKING:
    from edgekit.export.frontier import Point
    from edgekit.policy.model import PolicyModel
    from edgekit.quantize.sensitivity import Sensitivity
    from edgekit.recipes.export_recipe import ExportRecipe

SENSITIVITY_PROMPTS = 24
"""Rollouts along which a group's effect is measured; each group sees the same ones, so few order them well."""
ROUNDS, PROMPT_TOKENS, STEPS = 3, 16, 48
"""Artifacts are timed in turns, so that a busy moment of this host falls on all of them."""
SHOWN = 8


@dataclass(frozen=True)
class Budget:
    """What the artifact may weigh and must reach; ``n`` held-out prompts decide which recipe is best."""

    max_mb: float | None
    min_tokens_per_s: float | None
    n: int


@dataclass(frozen=True)
class Found:
    """All that a search saw: the recipes tried, smallest first, the one to take, what each group of weights does."""

    points: list[Point]
    chosen: ExportRecipe
    sensitivities: list[Sensitivity]


def search_recipes(source: Path, plain: ExportRecipe, task: str, budget: Budget, say: Callable[[str], None]) -> Found:
    """Every recipe tried, the frontier's members timed on this host, and the best within ``budget``.

    Raises CheckFailed if none fits.
    """
    from edgekit.export.frontier import choose
    from edgekit.export.search import candidates, evaluate, fine_rule
    from edgekit.policy.checkpoint import load_policy
    from edgekit.quantize.sensitivity import measure_sensitivity, weight_groups
    from edgekit.tasks import get_task

    policy = load_policy(policy_folder(source))
    length = min(plain.context_length, policy.model.config.max_position_embeddings)
    plain = plain.model_copy(update={"context_length": length})
    training = training_prompts(task, plain.quantize.calibration_prompts)
    held_out = [problem.prompt for problem in get_task(task).problems("validation", budget.n, seed=1)]
    groups = weight_groups(policy.model, plain.quantize, fine_rule(plain.target))
    say("what each group of weights does to the decisions")
    sensitivities = measure_sensitivity(
        policy, groups, training[:SENSITIVITY_PROMPTS], lambda done, of: say(f"sensitivity: group {done} of {of}")
    )
    recipes = candidates(policy.model, plain, sensitivities)
    with TemporaryDirectory() as folder:
        artifacts = Artifacts(Path(folder))
        points = evaluate(policy, recipes, training, held_out, say, artifacts.lower)
        del policy
        speeds = artifacts.decode_speeds(say)
    points = [replace(point, tokens_per_s=speeds.get(point.recipe.quantize.rules)) for point in points]
    return Found(points, choose(points, budget.max_mb, budget.min_tokens_per_s).recipe, sensitivities)


class Artifacts:
    """Artifacts made only to be timed, one for each set of rules: how a weight was rounded changes no speed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lowered: dict[tuple[Any, ...], tuple[ExportRecipe, Path]] = {}

    def lower(self, recipe: ExportRecipe, model: PolicyModel) -> None:
        """Make ``recipe``'s artifact of its quantized ``model``, unless one of the same rules is there."""
        from edgekit.export.targets import get_target
        from edgekit.quantize.integers import forget_floats

        if recipe.quantize.rules in self.lowered:
            return
        forget_floats(model)
        folder = self.folder / recipe.name
        folder.mkdir()
        self.lowered[recipe.quantize.rules] = recipe, get_target(recipe.target).lower(model, recipe, folder)

    def decode_speeds(self, say: Callable[[str], None]) -> dict[tuple[Any, ...], float]:
        """Decoded tokens a second in the host's simulator, by rules: of the median step of all turns.

        Most steps are short enough to run undisturbed, so that other work on this host hardly counts.
        """
        from edgekit.simulate import open_simulator

        seconds: dict[tuple[Any, ...], list[float]] = {rules: [] for rules in self.lowered}
        for turn in range(ROUNDS):
            for rules, (recipe, path) in self.lowered.items():
                say(f"timing {recipe.name}, turn {turn + 1} of {ROUNDS}")
                model = open_simulator(recipe.target, path, recipe.context_length, recipe.prefill_chunk)
                model.reset()
                model.prefill(list(range(PROMPT_TOKENS)))
                for token in range(min(STEPS, recipe.context_length - PROMPT_TOKENS - 1)):
                    begin = time.perf_counter()
                    model.decode(token)
                    seconds[rules].append(time.perf_counter() - begin)
        return {rules: 1 / statistics.median(steps) for rules, steps in seconds.items()}


def write_frontier(found: Found, target: str, bundle: Path) -> list[Path]:
    """``BUNDLE.frontier.json`` and ``.png``, beside the bundle (whose own files are pinned)."""
    from edgekit.atomic_write import write_file
    from edgekit.export.frontier import draw_frontier

    table, picture = (bundle.with_name(f"{bundle.name}.frontier.{ending}") for ending in ("json", "png"))
    groups = [
        {"group": item.group.name, **{k: v for k, v in asdict(item).items() if k != "group"}}
        for item in found.sensitivities
    ]
    data = {"chosen": found.chosen.name, "frontier": frontier_json(found.points), "sensitivity": groups}
    write_file(table, json.dumps(data, indent=1) + "\n")
    write_file(picture, draw_frontier(found.points, target))
    return [table, picture]


def frontier_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The points as JSON data, smallest first."""
    return [point.to_json() for point in points]


def frontier_table(points: Sequence[Point], chosen: str) -> Table:
    """One row per recipe, smallest first; a star marks the frontier, an arrow the chosen one."""
    from edgekit.verify.parity import wilson_interval

    table = Table()
    for heading in ("recipe", "MB", "same decision", "95 % interval", "same text", "calls", "tokens/s here"):
        table.add_column(heading, justify="left" if heading == "recipe" else "right")
    for point in points:
        mark = "> " if point.recipe.name == chosen else "* " if point.on_frontier else "  "
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
