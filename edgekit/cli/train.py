"""``edgekit train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.showing import progress
from edgekit.cli.terminal import PricesOption, err, tell_bill


def train(
    config: Annotated[str, typer.Argument(help="A YAML file or the name of a preset.")] = "default",
    out: Annotated[Path, typer.Option(help="The run directory to write.")] = Path("out/run"),
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, overrides CONFIG; repeatable.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint of --out.")] = False,
    prices: PricesOption = None,
) -> None:
    """Post-train a policy so that it answers what it can and calls the cloud when it cannot.

    Example: edgekit train --out out/run --set call_fraction=0.2

    With --resume a run goes on with its own config; --set may then change learning_rate, grad_clip, bfloat16 and
    importance_cap, as a run that diverged needs it.

    On several GPUs or processes: torchrun --nproc-per-node 2 -m edgekit train --out out/run
    """
    from edgekit.train.metrics import read_metrics, warnings_of
    from edgekit.workflows.train import is_first
    from edgekit.workflows.train import train as run_training

    first = is_first(os.environ)
    with progress("training", shown=first) as update:
        run_training(
            config,
            out,
            settings=set_ or [],
            resume=resume,
            on_progress=update,
            prices=prices,
            on_bill=tell_bill if first else None,
        )
    if first:
        for warning in warnings_of(read_metrics(out)):
            err.print(f"warning: {warning}", soft_wrap=True)
        err.print(f"policy: {out / 'policy'}   curves: {out / 'report' / 'index.md'}")
