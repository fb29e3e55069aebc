"""``edgekit make-base``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.showing import progress
from edgekit.cli.terminal import err


def make_base(
    out: Annotated[Path, typer.Option(help="The policy folder to write.")] = Path("out/base"),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Everything follows from it.")] = 0,
) -> None:
    """Make the built-in policy's supervised base again from a seed (what the package ships).

    Example: edgekit make-base --out out/base --seed 0
    """
    from edgekit.warm_start.builtin import make_base as run_warm_start

    with progress("warm start") as update:
        run_warm_start(out, seed=seed, on_progress=update)
    err.print(f"base policy: {out}")
