"""TensorBoard: an event file in the run's directory. ``tensorboard --logdir out`` shows it beside others."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgekit.errors import install_hint


def problem() -> str | None:
    """What is missing; None if nothing is."""
    return None if find_spec("tensorboard") else f"The tensorboard library is missing. {install_hint('track')}"


class TensorBoard:
    """Scalars by their names in metrics.jsonl, on disk after every step."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Steps from the first one on, which an interrupted run wrote before, are shown no more.
        self._writer = SummaryWriter(str(folder), purge_step=first_step)  # type: ignore[no-untyped-call]

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for key, value in numbers.items():
            self._writer.add_scalar(key, value, step)  # type: ignore[no-untyped-call]
        self._writer.flush()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._writer.close()  # type: ignore[no-untyped-call]


def open_tracker(folder: Path, config: Mapping[str, Any], name: str, first_step: int) -> TensorBoard:  # noqa: ARG001
    """See :mod:`edgekit.train.trackers`; the configuration lies beside the events, in config.yaml."""
    return TensorBoard(folder, first_step)
