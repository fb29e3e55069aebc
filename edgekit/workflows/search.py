"""Searching recipes: those around a plain one tried, the frontier's members timed here, the best one chosen."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.atomic_write import scratch_directory, write_file
from edgekit.errors import EdgekitError
from edgekit.export.frontier import Point, choose, draw_frontier
from edgekit.export.plan import plan_export
from edgekit.export.search import candidates, compare_recipes
from edgekit.export.targets import get_lowering
from edgekit.policy.model import PolicyModel
from edgekit.progress import Say
from edgekit.quantize.integers import forget_floats
from edgekit.quantize.sensitivity import Sensitivity, measure_sensitivity, weight_groups
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.targets import get_target
from edgekit.recipes.weights import storage_of
from edgekit.simulate import open_simulator
from edgekit.tasks import get_task
from edgekit.workflows.export import bundle_folder, recipe_for
from edgekit.workflows.prompts import training_prompts
from edgekit.workflows.source import AnyPath, load_policy, task_of

SENSITIVITY_PROMPTS = 24
"""Rollouts along which a group's effect is measured; each group sees the same ones, so few order them well."""
ROUNDS, PROMPT_TOKENS, STEPS = 3, 16, 48
"""Artifacts are timed in turns, so that a busy moment of this host falls on all of them."""


@dataclass(frozen=True)
class Budget:
    """What the artifact may weigh and must reach; ``n`` held-out prompts decide which recipe is best.

    Raises :class:`EdgekitError` for limits that nothing or everything is within.
    """

    max_mb: float | None
    min_tokens_per_s: float | None
    n: int

    def __post_init__(self) -> None:
        for limit in (self.max_mb, self.min_tokens_per_s):
            if limit is not None and not 0 < limit < math.inf:
                raise EdgekitError(f"bad budget: {limit:g}. It is a size or a speed. Give a number above 0.")


@dataclass(frozen=True)
class Found:
    """All that a search saw: the recipes tried, smallest first, the one to take, what each group of weights does."""

    points: list[Point]
    chosen: ExportRecipe
    sensitivities: list[Sensitivity]


def search(
    run: AnyPath,
    target: str,
    budget: Budget,
    *,
    recipe: str | Path | None = None,
    out: AnyPath | None = None,
    task: str | None = None,
    on_stage: Say | None = None,
) -> Found:
    """:func:`search_recipes` around ``recipe``, by default ``TARGET_int4``.

    What was found is kept beside the bundle that is to come, ``out``, by default out/RECIPE of the one to take.
    """
    found = search_recipes(run, recipe_for(target, recipe or f"{target}_int4"), budget, task=task, on_stage=on_stage)
    write_frontier(found, target, bundle_folder(found.chosen) if out is None else Path(out))
    return found


def search_recipes(
    run: AnyPath, plain: ExportRecipe, budget: Budget, *, task: str | None = None, on_stage: Say | None = None
) -> Found:
    """Try recipes around ``plain``, a target's 4-bit one, and choose the best within ``budget``.

    Raises, before any work, what an export by ``plain`` would raise; CheckFailed if no recipe is within the budget.
    """
    say = on_stage or (lambda _: None)
    task = task_of(Path(run), task)
    policy = load_policy(run)
    plain, _ = plan_export(policy.model, plain)
    training = training_prompts(task, plain.quantize.calibration_prompts)
    held_out = [problem.prompt for problem in get_task(task).problems("validation", budget.n, seed=1)]
    groups = weight_groups(policy.model, plain.quantize, get_target(plain.target).fine_rule)
    say("what each group of weights does to the decisions")
    sensitivities = measure_sensitivity(
        policy,
        groups,
        training[:SENSITIVITY_PROMPTS],
        storage_of(plain),
        lambda done, of, *_: say(f"sensitivity: group {done} of {of}"),
    )
    recipes = candidates(policy.model, plain, sensitivities)
    with scratch_directory() as folder:
        artifacts = Artifacts(folder)
        points = compare_recipes(policy, recipes, training, held_out, say, artifacts.lower)
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
        if recipe.quantize.rules in self.lowered:
            return
        forget_floats(model)
        folder = self.folder / recipe.name
        folder.mkdir()
        self.lowered[recipe.quantize.rules] = recipe, get_lowering(recipe.target).lower(model, recipe, folder)

    def decode_speeds(self, say: Say) -> dict[tuple[Any, ...], float]:
        """Decoded tokens a second in the host's simulator, by rules: of the median step of all turns.

        Most steps are short enough to run undisturbed, so that other work on this host hardly counts.
        """
        seconds: dict[tuple[Any, ...], list[float]] = {rules: [] for rules in self.lowered}
        for turn in range(ROUNDS):
            for rules, (recipe, path) in self.lowered.items():
                say(f"timing {recipe.name}, turn {turn + 1} of {ROUNDS}")
                model = open_simulator(recipe.target, path, recipe.context_length, recipe.prefill_chunk)
                steps = min(STEPS, recipe.context_length - PROMPT_TOKENS - 1)
                seconds[rules] += model.process.take_turns([model], list(range(PROMPT_TOKENS)), steps).seconds
        return {rules: 1 / statistics.median(steps) for rules, steps in seconds.items()}


def write_frontier(found: Found, target: str, bundle: Path) -> list[Path]:
    """``BUNDLE.frontier.json`` and ``.png``, beside the bundle (whose own files are pinned)."""
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
