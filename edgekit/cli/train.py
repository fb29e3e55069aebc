"""``edgekit train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgekit.cli.showing import progress
from edgekit.cli.terminal import JsonOption, PricesOption, err, print_json, tell_bill
from edgekit.errors import CheckFailed


def train(
    config: Annotated[str, typer.Argument(help="A YAML file or the name of a preset.")] = "default",
    out: Annotated[Path, typer.Option(help="The run directory to write.")] = Path("out/run"),
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, overrides CONFIG; repeatable.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint of --out.")] = False,
    track: Annotated[
        Literal["tensorboard", "wandb"] | None,
        typer.Option(help="Show the curves there too: OUT/tracking, or your Weights & Biases account."),
    ] = None,
    prices: PricesOption = None,
    json: JsonOption = False,
) -> None:
    """Post-train a policy so that it answers what it can and calls the cloud when it cannot.

    Example: edgekit train --out out/run --set call_fraction=0.2

    With --resume a run goes on with its own config; --set may then change learning_rate, grad_clip, bfloat16 and
    importance_cap, as a run that diverged needs it, and raise steps where the schedule is constant.

    On several GPUs or processes: torchrun --nproc-per-node 2 -m edgekit train --out out/run
    """
    from edgekit.train.health import findings_at_end, learned_nothing
    from edgekit.train.metrics import read_metrics
    from edgekit.train.run_directory import algorithm_in
    from edgekit.train.summary import what_happened
    from edgekit.workflows.train import is_first
    from edgekit.workflows.train import train as run_training

    def warn(text: str) -> None:
        err.print(f"warning: {text}", soft_wrap=True)

    def tell() -> None:
        steps = read_metrics(out)
        found = findings_at_end(steps, algorithm_in(out))
        for finding in found:
            warn(finding.text)
        if json:
            policy, report = str(out / "policy"), str(out / "report" / "index.md")
            warnings = [{"kind": finding.kind, "text": finding.text} for finding in found]
            told = {"run": str(out), "policy": policy, "report": report, "what_happened": what_happened(steps)}
            print_json({**told, "learned": not learned_nothing(steps), "warnings": warnings, "last_step": steps[-1]})
        else:
            err.print(what_happened(steps), soft_wrap=True)
            err.print(f"policy: {out / 'policy'}   curves: {out / 'report' / 'index.md'}", soft_wrap=True)

    first = is_first(os.environ)
    try:
        with progress("training", shown=first) as update:
            run_training(
                config,
                out,
                settings=set_ or [],
                resume=resume,
                on_progress=update,
                on_warning=warn,
                prices=prices,
                track=track,
                on_bill=tell_bill if first else None,
            )
    except CheckFailed:
        tell()
        raise
    if first:
        tell()
