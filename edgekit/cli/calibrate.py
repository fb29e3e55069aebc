"""``edgekit calibrate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.source import TaskOption, open_source, task_of
from edgekit.cli.terminal import JsonOption, out, print_json, progress


def calibrate(
    source: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    call_fraction: Annotated[float, typer.Option(help="The share of prompts that shall go to the cloud.")],
    task: TaskOption = None,
    n: Annotated[int, typer.Option(min=1, help="Validation problems.")] = 500,
    seed: Annotated[int, typer.Option(help="Which validation problems.")] = 0,
    json: JsonOption = False,
) -> None:
    """Fit the marker bias to a call fraction on validation problems and store it in routing.json.

    Example: edgekit calibrate out/demo/onnx --call-fraction 0.3
    """
    from edgekit.evaluate.calibrate import calibrate as fit
    from edgekit.evaluate.calibrate import store_calibration
    from edgekit.tasks import get_task

    prompts = [problem.prompt for problem in get_task(task_of(source, task)).problems("validation", n, seed)]
    decider = open_source(source)
    with progress("calibrating", quiet=json) as update:
        result = fit(decider, prompts, call_fraction, update)
    path = store_calibration(source, result)
    if json:
        print_json(asdict(result) | {"routing": str(path)})
    else:
        out.print(
            f"marker bias {result.marker_bias:+.3f}: {result.reached_fraction:.1%} of {n} call "
            f"(wanted {call_fraction:.1%}). Stored in {path}"
        )
