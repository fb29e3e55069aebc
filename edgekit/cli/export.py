"""``edgekit export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.source import TaskOption, task_of
from edgekit.cli.terminal import JsonOption, err, out, print_json

if TYPE_CHECKING:
    from edgekit.cli.search import Found
    from edgekit.export.pipeline import Fit, FitBias
    from edgekit.policy.checkpoint import Policy


BIAS_PROMPTS = 300
"""Validation problems on which an artifact's call fraction is brought back to the reference's."""


def bias_fitter(task: str) -> FitBias:
    """What fits a quantized policy's marker bias on validation problems of ``task``."""
    from edgekit.evaluate.answers import PolicyDecider
    from edgekit.evaluate.calibrate import matching_bias
    from edgekit.tasks import get_task

    prompts = [problem.prompt for problem in get_task(task).problems("validation", BIAS_PROMPTS, seed=0)]

    def for_reference(reference: Policy) -> Fit:
        before, bias = PolicyDecider(reference).decide(prompts), reference.routing.marker_bias
        return lambda twin: matching_bias(before, bias, PolicyDecider(twin), prompts)

    return for_reference


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or a policy folder.")],
    target: Annotated[str, typer.Option(help="onnx, executorch or coreml.")],
    recipe: Annotated[str | None, typer.Option(help="A YAML file or a name; by default TARGET_int4_decisions.")] = None,
    bundle: Annotated[Path | None, typer.Option("--out", help="The bundle to write; by default out/RECIPE.")] = None,
    task: TaskOption = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate/--no-calibrate", help="Fit the artifact's own marker bias.")
    ] = True,
    cases: Annotated[int, typer.Option(min=1, help="Conformance cases in the bundle.")] = 64,
    search: Annotated[bool, typer.Option("--search", help="Try recipes and export the best within budget.")] = False,
    max_mb: Annotated[float | None, typer.Option(help="With --search: the largest artifact.")] = None,
    min_tokens_per_s: Annotated[float | None, typer.Option(help="With --search: the slowest, on this host.")] = None,
    n: Annotated[int, typer.Option(min=1, help="With --search: held-out prompts that compare the recipes.")] = 300,
    json: JsonOption = False,
) -> None:
    """Quantize a run's policy, lower it to a phone's format, and bundle it.

    --search tries recipes around the given one: nearest, GPTQ, 8-bit head, mixed by sensitivity, 8 bits; what it
    found is kept in OUT.frontier.json and .png.

    Example: edgekit export out/demo/run --target coreml --out out/demo/coreml
    """
    from edgekit.cli.search import (
        Budget,
        frontier_json,
        frontier_table,
        search_recipes,
        sensitivity_table,
        write_frontier,
    )
    from edgekit.cli.source import calibration_prompts
    from edgekit.export.pipeline import export as run_export
    from edgekit.export.targets import get_target
    from edgekit.recipes.lookup import find_recipe
    from edgekit.tasks import get_task

    get_target(target)
    task = task_of(source, task)
    chosen = find_recipe(recipe or (f"{target}_int4" if search else None), target)
    destination = bundle or Path("out") / chosen.name
    prompts = [problem.prompt for problem in get_task(task).problems("test", cases, seed=1)]
    found: Found | None = None
    with err.status("exporting") as status:
        if search:
            found = search_recipes(source, chosen, task, Budget(max_mb, min_tokens_per_s, n), status.update)
            chosen = found.chosen
            write_frontier(found, target, destination)
        run_export(
            source,
            chosen,
            destination,
            prompts=prompts,
            task=task,
            calibration_prompts=calibration_prompts(chosen.quantize, task),
            fit_bias=bias_fitter(task) if calibrate else None,
            on_stage=status.update,
        )
    if json:
        frontier = {"frontier": frontier_json(found.points)} if found else {}
        print_json({"bundle": str(destination), "target": target, "recipe": chosen.name, **frontier})
        return
    if found:
        out.print(frontier_table(found.points, chosen.name), sensitivity_table(found), sep="\n")
    out.print(f"bundle: {destination} ({chosen.name}). Next: edgekit verify {destination}", soft_wrap=True)
