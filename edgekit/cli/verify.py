"""``edgekit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.showing import progress
from edgekit.cli.terminal import JsonOption, ResultsOption, TaskOption, err, out, print_json, refuse_idle

if TYPE_CHECKING:
    from edgekit.verify.device_check import DeviceVerdict
    from edgekit.verify.report import VerifyReport

COULD_NOT_RUN = 2


def verify(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="A bundle: a folder, or an archive made by pack.")],
    reference: Annotated[
        Path | None, typer.Option(help="The run it was made from; without it, the bundle's recorded decisions serve.")
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Held-out prompts, with --reference.")] = 500,
    seed: Annotated[int, typer.Option(help="Which held-out prompts.")] = 0,
    task: TaskOption = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            help="A share from 0 to 1 of decisions that must agree, both writing freely; not judged by default."
        ),
    ] = None,
    min_lowering: Annotated[
        float | None, typer.Option(help="The same between the rounded model and the artifact.")
    ] = None,
    device_report: Annotated[
        Path | None, typer.Option(help="A phone's self-test report: judge the phone, on the bundle's recorded prompts.")
    ] = None,
    signed_by: Annotated[
        str | None,
        typer.Option(help="Whose signature the archive must have: a minisign public key, file or text."),
    ] = None,
    results: ResultsOption = None,
    json: JsonOption = False,
) -> None:
    """Run the artifact on this host against the reference; exit code 1 if it is broken or a user would lose by it.

    Example: edgekit verify out/demo/onnx --reference out/demo/run --n 500

    Example: edgekit verify out/demo/onnx --device-report edgekit-report.json

    Example: edgekit verify countdown-1.zip --signed-by minisign.pub
    """
    from edgekit.verify.render import render
    from edgekit.workflows.verify import verify as verify_here
    from edgekit.workflows.verify import verify_device

    if device_report is not None:
        refuse_idle(context, "A phone is judged on the prompts recorded in the bundle", "n", "seed")
        refuse_idle(context, "What a phone decided stands in its report", "results")
        if reference is None:
            refuse_idle(context, "Without --reference nothing is rounded again", "task")
    elif reference is None:
        refuse_idle(context, "Without --reference the prompts recorded in the bundle serve", "n", "seed")
    limits = {"min_agreement": min_agreement, "min_lowering": min_lowering}
    report: VerifyReport | DeviceVerdict
    with progress("verifying") as update:
        if device_report is None:
            report = verify_here(
                bundle,
                reference,
                n=n,
                seed=seed,
                task=task,
                signed_by=signed_by,
                results=results,
                on_progress=update,
                **limits,
            )
        else:
            report = verify_device(
                bundle, device_report, reference, task=task, signed_by=signed_by, on_progress=update, **limits
            )
    if signed_by is not None:
        err.print(f"signature: {bundle} was signed with the key of {signed_by}", soft_wrap=True)
    if json:
        print_json(report.to_json())
    else:
        out.print(render(report))
    if report.outcome == "NOT_RUN":
        raise typer.Exit(COULD_NOT_RUN)
    if not report.passed:
        raise typer.Exit(1)
