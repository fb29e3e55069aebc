"""``edgekit calibrate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.showing import progress
from edgekit.cli.terminal import JsonOption, TaskOption, out, print_json


def calibrate(
    source: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    call_fraction: Annotated[float, typer.Option(help="The share of prompts that shall go to the cloud.")],
    task: TaskOption = None,
    n: Annotated[int, typer.Option(min=1, help="Validation problems.")] = 500,
    seed: Annotated[int, typer.Option(help="Which validation problems.")] = 0,
    json: JsonOption = False,
) -> None:
    """Fit the marker bias to a call fraction on validation problems and store it in routing.json.

    The bias is added to the marker's logit: more of it, more calls. The model's weights stay as they are.

    Example: edgekit calibrate out/demo/onnx --call-fraction 0.3
    """
    from edgekit.workflows.calibrate import calibrate as fit
    from edgekit.workflows.source import routing_file

    with progress("calibrating") as update:
        result = fit(source, call_fraction, task=task, n=n, seed=seed, on_progress=update)
    if json:
        print_json(asdict(result) | {"routing": str(routing_file(source))})
    else:
        low, high = result.interval
        fewer = f", all that the task has of the {n} asked for" if result.n < n else ""
        out.print(
            f"marker bias {result.marker_bias:+.3f}: {result.reached_fraction:.1%} of {result.n} validation problems "
            f"call (wanted {call_fraction:.1%}){fewer}. Of other such problems {low:.1%} to {high:.1%} will (95 %). "
            f"Stored in {routing_file(source)}"
        )
