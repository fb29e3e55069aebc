"""``edgekit eval``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgekit.cli.source import TaskOption, open_source, task_of
from edgekit.cli.terminal import JsonOption, out, print_json, progress

CALIBRATION_PROBLEMS = 500


def evaluate(
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
    from edgekit.cloud.choose import parse_cloud
    from edgekit.evaluate.answers import evaluate as run_evaluation
    from edgekit.evaluate.calibrate import calibrate
    from edgekit.tasks import get_task

    task = task_of(source, task)
    chosen = get_task(task)
    answerer = parse_cloud(cloud, chosen, os.environ)
    decider = open_source(source)
    bias = None
    if call_fraction is not None:
        prompts = [problem.prompt for problem in chosen.problems("validation", CALIBRATION_PROBLEMS, seed)]
        with progress("calibrating", quiet=json) as update:
            bias = calibrate(decider, prompts, call_fraction, update).marker_bias
    problems = chosen.problems("test", n, seed)
    with progress("evaluating", quiet=json) as update:
        result = run_evaluation(decider, chosen, problems, answerer, marker_bias=bias, on_progress=update)
    report = result.report
    if plot is not None:
        from edgekit.atomic_write import write_file
        from edgekit.evaluate.plots import draw_curve

        write_file(plot, draw_curve(result.scores, result.local_correct, report, cloud))
    if json:
        print_json(asdict(report))
        return
    table = Table(title=f"{source}: {task}, {n} held-out problems, cloud {cloud}", show_header=False)
    for key, value in asdict(report).items():
        table.add_row(key, "-" if value is None else f"{value:.4g}")
    out.print(table)
