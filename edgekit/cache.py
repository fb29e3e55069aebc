"""The folder in which downloads, warm starts and logs are kept; what is edgekit's in it, and clearing that."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgekit.errors import EdgekitError
from edgekit.folder_lock import lock_folder

Kind = Literal["model", "warm start", "unfinished warm start", "cloud answers", "log"]
LOGS = "logs"
ANSWERS = "cloud_answers.sqlite"
"""What clouds answered, paid for once."""
UNFINISHED = ".unfinished"
"""Ends the name of a folder from which a warm start that was cut off goes on."""
_MODELS = {"smollm2-135m-instruct", "gemma3-270m"}
_WARM_START = re.compile(r".+-[0-9a-f]{16}")  # MODEL-TASK-KEY
_LOG = re.compile(r"edgekit-[0-9]{8}-[0-9]{6}-[0-9]+\.log")


@dataclass(frozen=True)
class Cached:
    """One file or folder that edgekit keeps; ``mb`` in 10^6 bytes."""

    kind: Kind
    path: Path
    mb: float


def cache_folder() -> Path:
    """Where downloads and warm starts are kept: $EDGEKIT_CACHE, else ~/.cache/edgekit."""
    return Path(os.environ.get("EDGEKIT_CACHE") or home_folder("EDGEKIT_CACHE") / ".cache" / "edgekit")


def home_folder(instead: str) -> Path:
    """The user's home folder. Raises :class:`EdgekitError` if there is none; ``instead`` is the variable to set."""
    try:
        return Path.home()
    except RuntimeError:
        why = "Neither HOME nor the system names one"
        raise EdgekitError(f"no home folder: user {os.getuid()}. {why}. Set {instead} to a folder.") from None


def cached() -> list[Cached]:
    """What edgekit keeps, told by name and content: nothing else in the folder is ever listed or removed."""
    folder = cache_folder()
    paths = [path for path in sorted(folder.glob("*")) + sorted((folder / LOGS).glob("*")) if not path.is_symlink()]
    return [Cached(kind, path, _bytes(path) / 1e6) for path in paths if (kind := _kind(path)) is not None]


def clear_cache() -> list[Cached]:
    """Remove what :func:`cached` lists; returns it. Raises :class:`EdgekitError` where a process is at work."""
    entries = cached()
    for entry in entries:
        if entry.path.is_dir():
            with lock_folder(entry.path):
                shutil.rmtree(entry.path)
        else:
            entry.path.unlink()
    return entries


def _kind(path: Path) -> Kind | None:
    if path.name in _MODELS and (path / "config.json").is_file():
        return "model"
    if _WARM_START.fullmatch(path.name) and (path / "routing.json").is_file():
        return "warm start"
    if path.name == ANSWERS and path.is_file():
        return "cloud answers"
    if path.suffix == UNFINISHED and _WARM_START.fullmatch(path.stem) and path.is_dir():
        return "unfinished warm start"
    return "log" if _LOG.fullmatch(path.name) and path.parent.name == LOGS else None


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())
