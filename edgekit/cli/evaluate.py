"""``edgekit eval``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgekit.cli.showing import progress
from edgekit.cli.terminal import JsonOption, TaskOption, out, print_json


def eval_command(
    source: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    task: TaskOption = None,
    n: Annotated[int, typer.Option(min=1, help="Held-out problems.")] = 1000,
    seed: Annotated[int, typer.Option(help="Which held-out problems.")] = 0,
    call_fraction: Annotated[float | None, typer.Option(help="Calibrate to it first, on validation problems.")] = None,
    cloud: Annotated[str, typer.Option(help="oracle[:accuracy], openai:MODEL@BASE_URL or none.")] = "oracle",
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy against call fraction to this PNG.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure how well a policy and its cloud answer held-out problems.

    Example: edgekit eval out/demo/run --n 1000 --call-fraction 0.3
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
            on_progress=update,
        )
    report = evaluated.result.report
    if json:
        print_json(asdict(report))
        return
    fewer = f" (all that the task has of the {n} asked for)" if report.n < n else ""
    title = f"{source}: {evaluated.task}, {report.n} held-out problems{fewer}, cloud {cloud}"
    table = Table(title=title, show_header=False)
    for key, value in asdict(report).items():
        if key != "calibration":
            table.add_row(key, "-" if value is None else f"{value:.4g}")
    out.print(table)
    if report.calibration is not None:
        out.print(report.calibration.sentence(report.call_fraction), markup=False)
