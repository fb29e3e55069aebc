"""``edgekit doctor``."""

from __future__ import annotations

from dataclasses import asdict

from rich.table import Table

from edgekit.cli.terminal import JsonOption, out, print_json


def doctor(json: JsonOption = False) -> None:
    """Say what can run on this host: each target, its version, what is missing and how to get it.

    Example: edgekit doctor
    """
    from edgekit.workflows.doctor import host_status

    host = host_status()
    if json:
        print_json(asdict(host))
        return
    table = Table(title=f"edgekit {host.edgekit}, Python {host.python}, torch {host.torch}")
    for column in ("target", "export", "run on this host", "runtime", "missing"):
        table.add_column(column)
    for row in host.targets:
        version = f"{row.runtime['name']} {row.runtime['version']}" if row.runtime else "-"
        marks = ["yes" if can else "no" for can in (row.export, row.run)]
        table.add_row(row.target, *marks, version, row.missing or "")
    out.print(table)
