"""Weights & Biases: a run in the user's own account, or in a folder for ``wandb sync`` where WANDB_MODE is offline.

What leaves: the numbers of metrics.jsonl, the resolved configuration, and what wandb itself tells of the machine. No
code, no state of git, nothing of the terminal. Server, account and project are wandb's own settings.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgekit.atomic_write import write_file
from edgekit.chatter import logged_chatter
from edgekit.errors import install_hint
from edgekit.plain_file import read_text

PROJECT = "edgekit"
"""Unless the user's settings name another (WANDB_PROJECT)."""
RUN_ID = "wandb_run.txt"
"""Keeps the name that the run has there, so that one that is resumed goes on in the same curves."""
INIT_SECONDS, FINISH_SECONDS = 30.0, 120.0
"""How long a server may keep training waiting at its beginning, and its end."""


def problem() -> str | None:
    """What is missing; None if nothing is."""
    if find_spec("wandb") is None:
        return f"The wandb library is missing. {install_hint('track')}"
    import wandb

    with logged_chatter():
        is_ready = wandb.setup().settings.mode != "online" or wandb.login(prompt=False, verify=False)
    return None if is_ready else "You are not logged in. Run wandb login, or set WANDB_MODE=offline"


class WeightsAndBiases:
    """A run of wandb's that is this training's."""

    def __init__(self, folder: Path, config: Mapping[str, Any], name: str) -> None:
        import wandb

        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
        )
        self._run = wandb.init(
            project=wandb.setup().settings.project or PROJECT,
            id=_run_id(folder / RUN_ID),
            resume="allow",
            name=name,
            dir=str(folder),
            config=dict(config),
            settings=settings,
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


def open_tracker(folder: Path, config: Mapping[str, Any], name: str, first_step: int) -> WeightsAndBiases:  # noqa: ARG001
    """See :mod:`edgekit.train.trackers`; wandb itself leaves out steps that it has."""
    return WeightsAndBiases(folder, config, name)


def _run_id(file: Path) -> str:
    if not file.is_file():
        write_file(file, secrets.token_hex(8))
    return read_text(file)
