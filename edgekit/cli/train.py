"""``edgekit train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.terminal import err, progress


def train(
    config: Annotated[str, typer.Argument(help="A YAML file or the name of a preset.")] = "default",
    out: Annotated[Path, typer.Option(help="The run directory to write.")] = Path("out/run"),
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, overrides CONFIG; repeatable.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint of --out.")] = False,
) -> None:
    """Post-train a policy so that it answers what it can and calls the cloud when it cannot.

    Example: edgekit train --out out/run --set call_fraction=0.2

    On several GPUs or processes: torchrun --nproc-per-node 2 -m edgekit train --out out/run
    """
    from edgekit.cloud.choose import parse_cloud
    from edgekit.errors import EdgekitError
    from edgekit.tasks import get_task
    from edgekit.train.config import load_config
    from edgekit.train.loop import read_run_config
    from edgekit.train.loop import train as run_training
    from edgekit.train.metrics import StepMetrics
    from edgekit.train.parallel import FailedElsewhere, join
    from edgekit.train.plots import write_report
    from edgekit.warm_start.bases import is_pretrained, run_base

    if resume and (set_ or config != "default"):
        raise EdgekitError("resume: a run goes on with its own config. CONFIG and --set do not apply. Leave them out.")
    settings = read_run_config(out) if resume else load_config(config, set_ or [])
    cloud = parse_cloud(settings.cloud, get_task(settings.task), os.environ)
    if cloud is None:
        raise EdgekitError("cloud: none. Training needs a cloud to know what a call is worth. Use oracle.")
    try:
        with join(os.environ) as ranks:
            quiet = not ranks.is_first
            if is_pretrained(settings.base):
                with progress("warm start", quiet=quiet) as update:
                    base = ranks.from_first(lambda: run_base(settings, update))
                if ranks.is_first:
                    err.print(f"base policy: {base}", soft_wrap=True)
            with progress("training", quiet=quiet) as update:

                def show(metrics: StepMetrics) -> None:
                    shares = f"local {metrics.local_accuracy:.2f}  calls {metrics.call_fraction:.2f}"
                    note = f"reward {metrics.reward:.2f}  {shares}  D1 {metrics.d1}  D2 {metrics.d2}"
                    update(metrics.step, settings.steps, note)

                run_training(settings, out, cloud=cloud, resume=resume, on_step=show, ranks=ranks)
    except FailedElsewhere:
        raise typer.Exit(EdgekitError.exit_code) from None
    if ranks.is_first:
        write_report(out)
        err.print(f"policy: {out / 'policy'}   curves: {out / 'report' / 'index.md'}")
