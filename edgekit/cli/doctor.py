"""``edgekit doctor``."""

from __future__ import annotations

import platform

from rich.table import Table

from edgekit import __version__
from edgekit.cli.terminal import JsonOption, out, print_json


def doctor(json: JsonOption = False) -> None:
    """Say what can run on this host: each target, its version, what is missing and how to get it.

    Example: edgekit doctor
    """
    import torch

    from edgekit.recipes.targets import TARGETS

    rows = []
    for target in TARGETS.values():
        missing_export, missing_run = target.missing_to_lower(), target.missing_to_run()
        rows.append(
            {
                "target": target.name,
                "export": missing_export is None,
                "run": missing_run is None,
                "runtime": None if missing_export else target.runtime.facts(),
                "missing": missing_export or missing_run,
            }
        )
    report = {"edgekit": __version__, "python": platform.python_version(), "torch": torch.__version__, "targets": rows}
    if json:
        print_json(report)
        return
    table = Table(title=f"edgekit {__version__}, Python {platform.python_version()}, torch {torch.__version__}")
    for column in ("target", "export", "run on this host", "runtime", "missing"):
        table.add_column(column)
    for row in rows:
        runtime = row["runtime"]
        version = f"{runtime['name']} {runtime['version']}" if isinstance(runtime, dict) else "-"
        marks = ["yes" if row[key] else "no" for key in ("export", "run")]
        table.add_row(str(row["target"]), *marks, version, str(row["missing"] or ""))
    out.print(table)
