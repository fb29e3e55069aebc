"""``edgekit experiment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edgekit.cli.showing import progress
from edgekit.cli.terminal import JsonOption, err, print_json
from edgekit.cli.terminal import out as stdout


def experiment(
    config: Annotated[str, typer.Argument(help="A YAML file or the name of a preset.")] = "quick",
    out: Annotated[Path, typer.Option(help="The experiment's directory.")] = Path("out/experiment"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, dots reach inside (overrides.steps=50); repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on; --set may add methods and seeds.")] = False,
    seed: Annotated[list[int] | None, typer.Option(help="Only this of its seeds; repeatable.")] = None,
    json: JsonOption = False,
) -> None:
    """Train and judge every method under the same budgets of cloud calls, and write the report.

    Example: edgekit experiment paper_table --out out/paper_table
    """
    from edgekit.workflows.experiment import compare_methods

    with progress("experiment") as update:
        compared = compare_methods(
            config, out, settings=set_ or [], resume=resume, seeds=seed or None, on_progress=update
        )
    settings, rows = compared.config, _summary(compared.results)
    if json:
        print_json({"out": str(out), "report": str(out / "report" / "index.html"), "results": rows})
        return
    stdout.print(_table(rows, settings.methods, settings.call_fractions))
    err.print(f"report: {out / 'report' / 'index.html'}")


def _summary(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a method, seed and budget: the share of calls reached on test, overall accuracy, tokens on the device."""
    return [
        {
            "method": result["method"],
            "seed": result["seed"],
            "call_fraction": budget["call_fraction"],
            "reached": _mean(budget["calls"]),
            "accuracy": _mean(budget["correct"]),
            "device_tokens": _mean(budget["device_tokens"]),
        }
        for result in results
        for budget in result["budgets"]
    ]


def _table(rows: list[dict[str, Any]], methods: tuple[str, ...], fractions: tuple[float, ...]) -> Table:
    table = Table("method", *(f"{fraction:.0%} calls" for fraction in fractions))
    table.title = "overall accuracy on test @ share of calls reached, mean over seeds"
    table.columns[0].no_wrap = True
    for method in methods:
        cells = []
        for fraction in fractions:
            own = [row for row in rows if row["method"] == method and row["call_fraction"] == fraction]
            if own:  # with --seed, a method may have no result yet
                cells.append(f"{_mean([r['accuracy'] for r in own]):.3f} @ {_mean([r['reached'] for r in own]):.2f}")
        table.add_row(method, *cells)
    return table


def _mean(values: list[Any]) -> float:
    return sum(values) / len(values)
