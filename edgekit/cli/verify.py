"""``edgekit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.source import TaskOption, task_of
from edgekit.cli.terminal import JsonOption, out, policy_folder, print_json, progress

COULD_NOT_RUN = 2


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory.")],
    reference: Annotated[
        Path | None, typer.Option(help="The run it was made from; without it, the bundle's recorded decisions serve.")
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Held-out prompts, with --reference.")] = 500,
    seed: Annotated[int, typer.Option(help="Which held-out prompts.")] = 0,
    task: TaskOption = None,
    min_agreement: Annotated[float | None, typer.Option(help="Decisions that must agree; default 0.85.")] = None,
    min_lowering: Annotated[float | None, typer.Option(help="The same in the lowering hop; default 0.98.")] = None,
    json: JsonOption = False,
) -> None:
    """Run the artifact on this host and compare its decisions with the reference's; exit code 1 if they differ.

    Example: edgekit verify out/demo/onnx --reference out/demo/run --n 500
    """
    from edgekit.bundle.load import open_bundle
    from edgekit.cli.source import calibration_prompts
    from edgekit.cloud.oracle import OracleCloud
    from edgekit.policy.checkpoint import load_policy
    from edgekit.quantize.recipe import QuantRecipe
    from edgekit.tasks import get_task
    from edgekit.verify.check import verify_bundle
    from edgekit.verify.parity import Thresholds
    from edgekit.verify.render import render

    given = {"min_agreement": min_agreement, "min_lowering_agreement": min_lowering}
    limits = Thresholds(**{key: value for key, value in given.items() if value is not None})
    opened = open_bundle(bundle)
    task = task_of(bundle, task)
    chosen = get_task(task)
    policy = load_policy(policy_folder(reference)) if reference else None
    problems = chosen.problems("test", n, seed) if reference else []
    rounded_on = calibration_prompts(
        QuantRecipe.model_validate(opened.manifest.recipe["quantize"]), opened.manifest.provenance.get("task") or task
    )
    with progress("verifying", quiet=json) as update:
        report = verify_bundle(
            opened,
            policy,
            problems,
            chosen,
            OracleCloud(chosen),
            calibration_prompts=rounded_on,
            limits=limits,
            on_progress=update,
        )
    if json:
        print_json(report.to_json())
    else:
        out.print(render(report))
    if report.outcome == "NOT_RUN":
        raise typer.Exit(COULD_NOT_RUN)
    if not report.passed:
        raise typer.Exit(1)
