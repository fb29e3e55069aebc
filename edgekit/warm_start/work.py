"""What an unfinished warm start has already done: a folder from which one that was killed goes on, bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from torch import nn

from edgekit.atomic_write import new_directory, sweep, write_file
from edgekit.errors import BundleError
from edgekit.folder_lock import lock_folder
from edgekit.plain_file import RECORD_BYTES, read_text
from edgekit.policy.optimizer_state import restore_state, save_state

T = TypeVar("T")
STATE = "state.json"
EVERY = 25
"""After how many steps a state is kept: each is three times the model."""


@dataclass(frozen=True)
class Checkpoints:
    """The newest state of one supervised phase: weights, the optimizer's moments, and how many steps are done."""

    folder: Path

    def save(self, done: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Replace the state by that after ``done`` steps, whole or not at all."""
        with new_directory(self.folder, marker_file=STATE) as new:
            save_state(new, dict(model.named_parameters()), optimizer)
            (new / STATE).write_text(json.dumps({"done": done}) + "\n")

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Put the state into ``model`` and ``optimizer``; returns the steps done, 0 if there is no state.

        Raises :class:`BundleError` for a state that is damaged.
        """
        if not (self.folder / STATE).is_file():
            return 0
        with _readable(self.folder):
            done = json.loads(read_text(self.folder / STATE))["done"]
            if isinstance(done, bool) or not isinstance(done, int) or done < 1:
                raise ValueError("it says of no step that it is done")
            restore_state(self.folder, dict(model.named_parameters()), optimizer)
        return done


@dataclass(frozen=True)
class Work:
    """A warm start's unfinished parts, by name, in ``folder``."""

    folder: Path


def checkpoints(work: Work | None, phase: str) -> Checkpoints | None:
    """Where ``phase`` keeps its state, if anywhere."""
    return None if work is None else Checkpoints(work.folder / phase)


def once(work: Work | None, name: str, compute: Callable[[], T]) -> T:
    """What ``compute`` gives, a JSON value that ``work`` keeps under ``name``, so that it is computed only once."""
    if work is None:
        return compute()
    path = work.folder / f"{name}.json"
    if not path.is_file():
        write_file(path, json.dumps(compute()) + "\n")
    with _readable(path):
        kept: T = json.loads(read_text(path, RECORD_BYTES))
    return kept


@contextmanager
def _readable(place: Path) -> Iterator[None]:
    """Raise :class:`BundleError` for whatever reading something damaged raises."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, RecursionError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"unreadable work: {place}. {reason}. Remove {place.parent} to begin anew.") from None


@contextmanager
def unfinished(folder: Path) -> Iterator[Work]:
    """The :class:`Work` in ``folder``; the folder is removed when the block ends without an error.

    Raises :class:`EdgekitError` if another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with lock_folder(folder):
        sweep(folder)
        yield Work(folder)
        shutil.rmtree(folder)
