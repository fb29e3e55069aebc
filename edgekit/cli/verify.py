"""``edgekit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.source import TaskOption, task_of
from edgekit.cli.terminal import JsonOption, out, policy_folder, print_json, progress

if TYPE_CHECKING:
    from edgekit.bundle.load import Bundle
    from edgekit.evaluate.answers import Progress
    from edgekit.policy.checkpoint import Policy
    from edgekit.verify.device_check import DeviceVerdict
    from edgekit.verify.parity import Thresholds, VerifyReport

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
    device_report: Annotated[
        Path | None, typer.Option(help="A phone's self-test report: judge the phone, on the bundle's recorded prompts.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run the artifact on this host and compare its decisions with the reference's; exit code 1 if they differ.

    Example: edgekit verify out/demo/onnx --reference out/demo/run --n 500

    Example: edgekit verify out/demo/onnx --device-report edgekit-report.json
    """
    from edgekit.bundle.load import open_bundle
    from edgekit.policy.checkpoint import load_policy
    from edgekit.verify.device_check import verify_device
    from edgekit.verify.device_report import read_device_report
    from edgekit.verify.parity import Thresholds
    from edgekit.verify.render import render

    given = {"min_agreement": min_agreement, "min_lowering_agreement": min_lowering}
    limits = Thresholds(**{key: value for key, value in given.items() if value is not None})
    phone = read_device_report(device_report) if device_report else None
    opened = open_bundle(bundle)
    policy = load_policy(policy_folder(reference)) if reference else None
    report: VerifyReport | DeviceVerdict
    with progress("verifying", quiet=json) as update:
        if phone is None:
            report = _verify_here(opened, policy, task_of(bundle, task), n, seed, limits, update)
        else:
            prompts = _rounded_on(opened, task_of(bundle, task)) if policy else []
            report = verify_device(
                opened, phone, policy, calibration_prompts=prompts, limits=limits, on_progress=update
            )
    if json:
        print_json(report.to_json())
    else:
        out.print(render(report))
    if report.outcome == "NOT_RUN":
        raise typer.Exit(COULD_NOT_RUN)
    if not report.passed:
        raise typer.Exit(1)


def _verify_here(
    bundle: Bundle, policy: Policy | None, task: str, n: int, seed: int, limits: Thresholds, update: Progress
) -> VerifyReport:
    from edgekit.cloud.oracle import OracleCloud
    from edgekit.tasks import get_task
    from edgekit.verify.check import verify_bundle

    chosen = get_task(task)
    problems = chosen.problems("test", n, seed) if policy else []
    return verify_bundle(
        bundle,
        policy,
        problems,
        chosen,
        OracleCloud(chosen),
        calibration_prompts=_rounded_on(bundle, task),
        limits=limits,
        on_progress=update,
    )


def _rounded_on(bundle: Bundle, task: str) -> list[str]:
    """The prompts that the bundle's export rounded by."""
    from edgekit.cli.source import calibration_prompts
    from edgekit.recipes.quant_recipe import QuantRecipe

    recipe = QuantRecipe.model_validate(bundle.manifest.recipe["quantize"])
    return calibration_prompts(recipe, bundle.manifest.provenance.get("task") or task)
