"""``edgekit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edgekit.cli.terminal import JsonOption, out, print_json, progress


def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory.")],
    repeats: Annotated[int, typer.Option(min=1, help="Measurements; the median is reported.")] = 5,
    json: JsonOption = False,
) -> None:
    """Measure the artifact's speed, memory and size on this host (not on a phone).

    Example: edgekit bench out/demo/onnx
    """
    from edgekit.bundle.load import open_bundle
    from edgekit.simulate.measure import measure

    opened = open_bundle(bundle)
    with progress("measuring", quiet=json) as update:
        numbers = measure(opened, repeats, update)
    if json:
        print_json(numbers)
        return
    table = Table(title=f"{bundle} on this host", show_header=False)
    for key, value in numbers.items():
        table.add_row(key, f"{value:,.2f}")
    out.print(table)
