"""What commands share at the terminal: one JSON object on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgekit.errors import BundleError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]


def print_json(data: dict[str, Any]) -> None:
    """Print ``data`` as one line of strict JSON: infinities and NaN become null."""
    print(json.dumps(_finite(data)))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@contextmanager
def progress(description: str, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A bar on stderr; call the yielded function with (done, total) and optionally a note."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=err, disable=quiet
    ) as bar:
        task = bar.add_task(description, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield update


def is_bundle(source: Path) -> bool:
    """True for a bundle, False for a run or policy folder; :class:`BundleError` for anything else."""
    if (source / "manifest.json").is_file():
        return True
    policy_folder(source)
    return False


def policy_folder(source: Path) -> Path:
    """The policy folder of a run (its ``policy/``) or the folder itself."""
    for folder in (source / "policy", source):
        if (folder / "routing.json").is_file() and (folder / "config.json").is_file():
            return folder
    if (source / "checkpoints").is_dir():
        raise BundleError(f"unfinished run: {source}. It has no policy yet. Run edgekit train --resume --out {source}.")
    raise BundleError(f"not a run or bundle: {source}. No policy/ and no manifest.json there. Check the path.")
