"""``edgekit eval``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from edgekit.cli.showing import progress
from edgekit.cli.terminal import (
    CloudOption,
    JsonOption,
    PricesOption,
    ResultsOption,
    TaskOption,
    err,
    out,
    print_json,
    tell_bill,
)
from edgekit.errors import CheckFailed

if TYPE_CHECKING:
    from edgekit.workflows.evaluate import Evaluated


def eval_command(
    source: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    task: TaskOption = None,
    n: Annotated[int, typer.Option(min=1, help="Held-out problems.")] = 1000,
    seed: Annotated[int, typer.Option(help="Which held-out problems.")] = 0,
    call_fraction: Annotated[
        float | None, typer.Option(help="The share of prompts that may call, fitted on validation problems first.")
    ] = None,
    cloud: CloudOption = "own",
    plot: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw accuracy against call fraction to this PNG.")
    ] = None,
    results: ResultsOption = None,
    judge: Annotated[
        bool,
        typer.Option("--judge", help="The cloud judges the device's answers too: how far does it agree with labels?"),
    ] = False,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Overall accuracy that must be reached: exit code 1 below it.")
    ] = None,
    prices: PricesOption = None,
    json: JsonOption = False,
) -> None:
    """Measure how well a policy and its cloud answer held-out problems.

    Example: edgekit eval out/demo/run --n 1000 --call-fraction 0.3

    Example: edgekit eval out/demo/onnx --min-accuracy 0.85
    """
    from edgekit.workflows.evaluate import evaluate_source

    with progress("evaluating") as update:
        evaluated = evaluate_source(
            source,
            task=task,
            n=n,
            seed=seed,
            call_fraction=call_fraction,
            cloud=cloud,
            plot=plot,
            results=results,
            judge=judge,
            min_accuracy=min_accuracy,
            prices=prices,
            on_bill=tell_bill,
            on_progress=update,
        )
    report = evaluated.result.report
    for note in evaluated.notes:
        err.print(f"note: {note}", soft_wrap=True)
    if json:
        print_json(asdict(report) | ({"judge": asdict(evaluated.judge)} if evaluated.judge else {}))
    else:
        _show(evaluated, source, n)
    if evaluated.shortfall is not None:
        raise CheckFailed(evaluated.shortfall)


def _show(evaluated: Evaluated, source: Path, n: int) -> None:
    """The report as a table; ``n`` problems were asked for."""
    report = evaluated.result.report
    fewer = f" (all that the task has of the {n} asked for)" if report.n < n else ""
    title = f"{source}: {evaluated.task}, {report.n} held-out problems{fewer}, cloud {evaluated.cloud}"
    table = Table(title=title, show_header=False)
    for key, value in asdict(report).items():
        if key != "calibration":
            table.add_row(key, "-" if value is None else f"{value:.4g}")
    out.print(table)
    if report.calibration is not None:
        out.print(report.calibration.sentence(report.call_fraction))
    if evaluated.judge is not None:
        out.print(evaluated.judge.sentence(), soft_wrap=True)
