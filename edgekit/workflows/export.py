"""Exporting a run: the recipe found, the prompts it needs drawn from the run's task, the marker bias fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgekit.bundle.load import open_bundle
from edgekit.evaluate.answers import PolicyDecider
from edgekit.evaluate.calibrate import left_calibrated, matching_bias
from edgekit.export import pipeline
from edgekit.export.pipeline import Fit, FitBias
from edgekit.policy.checkpoint import Policy
from edgekit.progress import Say
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.fit import Fallback
from edgekit.recipes.lookup import find_recipe
from edgekit.recipes.targets import get_target
from edgekit.tasks import get_task, task_label
from edgekit.tasks.recorded import grading_of
from edgekit.workflows.origin import FIRST_VERSION, origin_of
from edgekit.workflows.prompts import bias_prompts, calibration_prompts, conformance_problems
from edgekit.workflows.source import AnyPath, task_of

CASES = 64


def export(
    run: AnyPath,
    target: str,
    *,
    recipe: str | Path | ExportRecipe | None = None,
    out: AnyPath | None = None,
    task: str | None = None,
    calibrate: bool = True,
    cases: int = CASES,
    version: str = FIRST_VERSION,
    licence: str | None = None,
    date: str | None = None,
    on_stage: Say | None = None,
    on_fallbacks: Callable[[Sequence[Fallback]], None] | None = None,
) -> Path:
    """Quantize the policy of ``run``, lower it to ``target`` (onnx, executorch or coreml) and bundle it.

    ``recipe`` is a name, a file or a recipe; by default ``TARGET_int4_decisions``. ``out`` is by default out/RECIPE,
    ``task`` the one that the run was trained on. ``calibrate`` fits the artifact's own marker bias; ``cases`` recorded
    decisions go into the bundle. ``version`` is the bundle's own; ``licence`` the base model's, where nothing here says
    it; ``date`` a time in seconds since 1970, without which the bundle has none and equal inputs give equal bundles.
    ``on_fallbacks`` hears which weights get other numbers than the recipe asks for, its
    groups not dividing them. Returns the bundle's folder. Raises :class:`EdgekitError` before any work where the
    recipe does not fit the policy (every reason), this host cannot lower to the target, or ``out`` is taken.
    """
    source = Path(run)
    chosen = recipe if isinstance(recipe, ExportRecipe) else recipe_for(target, recipe)
    origin = origin_of(source, version, licence, date)
    task = task_of(source, task)
    problems = conformance_problems(task, cases)
    gradings = [grading_of(get_task(task), problem) for problem in problems]
    return pipeline.export(
        source,
        chosen,
        bundle_folder(chosen) if out is None else Path(out),
        prompts=[problem.prompt for problem in problems],
        answers=[None if each is None else (each.rule, each.answer) for each in gradings],
        task=task_label(task),
        origin=origin,
        calibration_prompts=calibration_prompts(chosen.quantize, task),
        fit_bias=bias_fitter(task) if calibrate else None,
        on_stage=on_stage,
        on_fallbacks=on_fallbacks,
    )


def budget_note(bundle: AnyPath) -> str | None:
    """What to say where the recorded prompts show that a new bundle left the share of calls it was calibrated to."""
    opened = open_bundle(Path(bundle), check=False)
    decisions = [opened.expected(case) for case in opened.conformance()]
    called = sum(decision.called for decision in decisions)
    return left_calibrated(opened.routing, called, len(decisions), str(bundle))


def recipe_for(target: str, recipe: str | Path | None = None) -> ExportRecipe:
    """The recipe of that name or file for ``target``, or its default. Raises :class:`EdgekitError` if there is none."""
    get_target(target)
    return find_recipe(recipe, target)


def bundle_folder(recipe: ExportRecipe) -> Path:
    """Where a bundle of ``recipe`` goes by default."""
    return Path("out") / recipe.name


def bias_fitter(task: str) -> FitBias:
    """What fits a quantized policy's marker bias on validation problems of ``task``."""
    prompts = bias_prompts(task)

    def for_reference(reference: Policy) -> Fit:
        before, bias = PolicyDecider(reference).decide(prompts), reference.routing.marker_bias
        return lambda twin: matching_bias(before, bias, PolicyDecider(twin), prompts)

    return for_reference
