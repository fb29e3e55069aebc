"""Where a run's curves can be watched besides its own report: a file for each program that draws them.

In each, ``problem()`` says what keeps it from being used here, before any work, and ``open_tracker()``, whose arguments
are the folder, the configuration, the run's name and its first step from here on, begins to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from edgekit.errors import EdgekitError

TrackerName = Literal["tensorboard", "wandb"]
TRACKERS: dict[TrackerName, str] = {
    "tensorboard": "edgekit.train.trackers.to_tensorboard",
    "wandb": "edgekit.train.trackers.to_wandb",
}
FOLDER = "tracking"
"""In a run's directory: what trackers write."""


class Tracker(Protocol):
    """Something that takes each step's numbers. What its library raises is raised."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take what was measured in ``step``."""

    def close(self) -> None:
        """Write or send what is left."""


def require_tracker(name: str) -> None:
    """Raises :class:`EdgekitError` for a name that edgekit does not know, and for what this host lacks to use it."""
    if name not in TRACKERS:
        raise EdgekitError(f"unknown tracker: {name}. edgekit does not know it. Use {' or '.join(TRACKERS)}.")
    if problem := import_module(TRACKERS[name]).problem():
        raise EdgekitError(f"cannot track: {name}. {problem}.")


def open_tracker(name: TrackerName, run_dir: Path, config: Mapping[str, Any], first_step: int) -> Tracker:
    """Begin to track the run in ``run_dir``, or go on with it, from ``first_step``."""
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    tracker: Tracker = import_module(TRACKERS[name]).open_tracker(folder, config, run_dir.absolute().name, first_step)
    return tracker
