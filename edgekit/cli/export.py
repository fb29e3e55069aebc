"""``edgekit export``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.terminal import JsonOption, err, out, print_json

if TYPE_CHECKING:
    from edgekit.policy.checkpoint import Policy


BIAS_PROMPTS = 300
"""Validation problems on which an artifact's call fraction is brought back to the reference's."""


def bias_fitter(task: str) -> Callable[[Policy, Policy], float]:
    """What fits a quantized policy's marker bias on validation problems of ``task``."""
    from edgekit.evaluate.answers import PolicyDecider
    from edgekit.evaluate.calibrate import matching_bias
    from edgekit.tasks import get_task

    prompts = [problem.prompt for problem in get_task(task).problems("validation", BIAS_PROMPTS, seed=0)]
    return lambda reference, twin: matching_bias(PolicyDecider(reference), PolicyDecider(twin), prompts)


def export(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or a policy folder.")],
    target: Annotated[str, typer.Option(help="onnx, executorch or coreml.")],
    recipe: Annotated[str | None, typer.Option(help="A YAML file or a name in export_recipes/.")] = None,
    bundle: Annotated[Path | None, typer.Option("--out", help="The bundle to write; by default out/RECIPE.")] = None,
    task: Annotated[str, typer.Option(help="Whose problems become the conformance cases.")] = "countdown",
    calibrate: Annotated[
        bool, typer.Option("--calibrate/--no-calibrate", help="Fit the artifact's own marker bias.")
    ] = True,
    cases: Annotated[int, typer.Option(min=1, help="Conformance cases in the bundle.")] = 64,
    json: JsonOption = False,
) -> None:
    """Quantize a run's policy, lower it to a phone's format, and bundle it.

    Example: edgekit export out/demo/run --target coreml --out out/demo/coreml
    """
    from edgekit.cli.source import calibration_prompts
    from edgekit.export.lookup import find_recipe
    from edgekit.export.pipeline import export as run_export
    from edgekit.export.targets import get_target
    from edgekit.tasks import get_task

    get_target(target)
    chosen = find_recipe(recipe, target)
    destination = bundle or Path("out") / chosen.name
    prompts = [problem.prompt for problem in get_task(task).problems("test", cases, seed=1)]
    with err.status("exporting") as status:
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
        print_json({"bundle": str(destination), "target": target, "recipe": chosen.name})
    else:
        out.print(f"bundle: {destination} ({chosen.name}). Next: edgekit verify {destination}", soft_wrap=True)
