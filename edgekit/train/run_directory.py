"""A run's directory: config.yaml, metrics.jsonl, timings.jsonl, checkpoints/, and policy/ at the end.

A run whose task is a file has its hash in task.txt.

What is recorded of a step is on disk before the next begins, and going on cuts the files back to the checkpoint it
goes on from: a run that was killed leaves what an uninterrupted one does.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from edgekit.atomic_write import new_directory, sweep, write_file
from edgekit.errors import ConfigError, EdgekitError
from edgekit.folder_lock import lock_folder
from edgekit.policy.checkpoint import Policy, save_policy
from edgekit.policy.grid import Grid, load_grid
from edgekit.policy.model import PolicyModel
from edgekit.tasks import jsonl_file
from edgekit.train.algorithms import Algorithm
from edgekit.train.checkpoint import checkpoint_steps, load_checkpoint, save_checkpoint
from edgekit.train.config import KEPT_TASK, TrainConfig, load_run_config
from edgekit.train.metrics import StepMetrics, append_line, append_metrics, truncate_lines
from edgekit.train.parallel import check_shares
from edgekit.train.responses import SERVED
from edgekit.train.task_file import check_task, keep_task
from edgekit.train.update import PolicyUpdate

CHANGEABLE = ("learning_rate", "grad_clip", "bfloat16", "importance_cap", "steps")
"""Settings with which a run may go on otherwise than it began: those that a run which diverged needs changed, and its
length, where the schedule does not hang on it."""


class RunDirectory:
    """The files of the run at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"

    @property
    def ledger(self) -> Path:
        """Where it is written what the cloud was asked."""
        return self.path / "cloud_answers.jsonl"

    def start(self, config: TrainConfig, world: int, held: ExitStack, *, resume: bool) -> None:
        """Lock the folder until ``held`` is left, for a run of ``config`` among ``world`` processes.

        Raises :class:`EdgekitError` unless it can begin here, or go on.
        """
        check_shares(config.prompts_per_step, world)
        if not resume and (self.path.is_dir() or not self.path.exists()):
            self.path.mkdir(parents=True, exist_ok=True)
            held.callback(_remove_empty, self.path)
        if self.path.is_dir():
            held.enter_context(lock_folder(self.path))
            sweep(self.path)
        if resume:
            saved, given = read_run_config(self.path).model_dump(), config.model_dump()
            changed = [
                f"{key}: {given[key]!r}, the run has {saved[key]!r}"
                for key in saved
                if saved[key] != given[key] and key not in CHANGEABLE
            ]
            changed += _length_problems(saved, given)
            if changed:
                raise ConfigError(f"cannot resume {self.path} with another config", changed)
            check_task(self.path, config.task)
        elif not self.path.is_dir() or any(self.path.iterdir()):
            what = "a run" if (self.path / "config.yaml").exists() else "something else"
            raise EdgekitError(f"output exists: {self.path}. It holds {what}. Use --resume to go on, or another --out.")

    def grid(self) -> Grid | None:
        """The grid that a run here was begun on, if it was on one."""
        return load_grid(self.path)

    def begin(self, config: TrainConfig, grid: Grid | None) -> None:
        """Write down the configuration, if it is not there as it is, the ``grid`` that its recipe gave, and of a task
        that is a file its hash, or a JSONL's copy.

        The configuration comes first: with it the run can go on, whatever ends this here.
        """
        file, text = self.path / "config.yaml", config.to_yaml()
        if not file.is_file() or file.read_text() != text:
            write_file(file, text)
        if grid is not None:
            grid.save(self.path)
        if not self.last_checkpoint():  # an older version's run may have learned from a file that has changed since
            keep_task(self.path, config.task)
        task_file = jsonl_file(config.task)
        if task_file is not None and not (self.path / KEPT_TASK / task_file.name).is_file():
            write_file(self.path / KEPT_TASK / task_file.name, task_file.read_bytes(), private=True)

    def last_checkpoint(self) -> int:
        """The last checkpoint's step, 0 if there is none."""
        return max(checkpoint_steps(self.checkpoints), default=0)

    def rewind(self) -> int:
        """Cut the files back to the last checkpoint; returns its step, 0 if there is none.

        The ledger stays: the steps run again need the very same answers, and no prompt is sent twice.
        """
        sweep(self.checkpoints)
        step = self.last_checkpoint()
        truncate_lines(self.path / "metrics.jsonl", step)
        truncate_lines(self.path / "timings.jsonl", step)
        return step

    def load(self, step: int, update: PolicyUpdate, algorithm: Algorithm) -> None:
        """Put the checkpoint of ``step`` back into what trains."""
        algorithm.call_price = load_checkpoint(self.checkpoints, step, update.weights.moved, update.optimizer)

    def record(self, metrics: StepMetrics, seconds: float) -> None:
        """Append a step, on disk on return."""
        append_metrics(self.path / "metrics.jsonl", metrics)
        append_line(self.path / "timings.jsonl", {"step": metrics.step, "seconds": round(seconds, 3)})

    def save(self, step: int, update: PolicyUpdate, algorithm: Algorithm) -> None:
        """Write a checkpoint of ``step``; older ones than the last few go."""
        save_checkpoint(self.checkpoints, step, update.weights.moved, update.optimizer, algorithm.call_price)

    def finish(self, policy: Policy, floats: PolicyModel | None) -> None:
        """Write the policy, and the ``floats`` behind its grid."""
        with new_directory(self.path / "policy", marker_file="routing.json") as folder:
            save_policy(policy, folder, floats)
        shutil.rmtree(self.path / SERVED, ignore_errors=True)


def _length_problems(saved: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Why a run cannot be made as long as ``given`` says; empty if it can."""
    if given["steps"] == saved["steps"]:
        return []
    if saved["schedule"] != "constant":
        return [
            f"steps: its {saved['schedule']} schedule was laid out for {saved['steps']}, only a constant one goes on"
        ]
    if given["steps"] < saved["steps"]:
        return [f"steps: {given['steps']} is less than the {saved['steps']} that it has, a run is only lengthened"]
    return []


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def algorithm_in(run_dir: Path) -> str:
    """The algorithm of the run in ``run_dir``."""
    return read_run_config(run_dir).algorithm


def read_run_config(run_dir: Path, settings: Mapping[str, Any] | Sequence[str] = ()) -> TrainConfig:
    """The configuration of the run in ``run_dir``, with ``settings`` changed.

    Raises :class:`EdgekitError` if there is none.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise EdgekitError(f"not a run: {run_dir}. It has no config.yaml. Check the path, or train without --resume.")
    return load_run_config(path, settings)
