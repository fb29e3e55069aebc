"""``edgekit cache``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from edgekit.cache import cache_folder, cached, clear_cache
from edgekit.cli.terminal import JsonOption, out, print_json


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is listed.")] = False, json: JsonOption = False
) -> None:
    """Show where downloads, warm starts and logs are kept ($EDGEKIT_CACHE) and how large they are.

    Models of the Hugging Face hub lie in that library's own cache.

    Example: edgekit cache --clear
    """
    entries = clear_cache() if clear else cached()
    total = sum(entry.mb for entry in entries)
    if json:
        listed = [{"kind": entry.kind, "path": str(entry.path), "mb": entry.mb} for entry in entries]
        print_json({"folder": str(cache_folder()), "cleared": clear, "mb": total, "entries": listed})
        return
    if entries:
        table = Table("what", "name", "MB")
        for entry in entries:
            table.add_row(entry.kind, entry.path.name, f"{entry.mb:,.1f}")
        out.print(table)
    out.print(f"{total:,.1f} MB {'removed from' if clear else 'in'} {cache_folder()}", soft_wrap=True)
