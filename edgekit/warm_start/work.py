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
from safetensors.torch import load_file
from torch import nn

from edgekit.atomic_write import new_directory, sweep, write_file
from edgekit.folder_lock import lock_folder
from edgekit.policy.tensor_file import save_tensors

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
        weights = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
        moments = {
            f"{name}:{key}": value.detach().contiguous()
            for name, parameter in model.named_parameters()
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        with new_directory(self.folder, marker_file=STATE) as new:
            save_tensors(weights, new / "weights.safetensors")
            save_tensors(moments, new / "optimizer.safetensors")
            (new / STATE).write_text(json.dumps({"done": done}) + "\n")

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Put the state into ``model`` and ``optimizer``; returns the steps done, 0 if there is no state."""
        if not (self.folder / STATE).is_file():
            return 0
        weights = load_file(self.folder / "weights.safetensors")
        moments = load_file(self.folder / "optimizer.safetensors")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        for name, parameter in model.named_parameters():
            kept = {key: value for key, value in moments.items() if key.rpartition(":")[0] == name}
            optimizer.state[parameter] = {key.rpartition(":")[2]: v.to(parameter.device) for key, v in kept.items()}
        return int(json.loads((self.folder / STATE).read_text())["done"])


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
    kept: T = json.loads(path.read_text())
    return kept


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
