"""Watching a run in a program made for it. A tracker that fails is one warning: it never costs the training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from edgekit.progress import Say
from edgekit.train.config import TrainConfig
from edgekit.train.metrics import StepMetrics
from edgekit.train.trackers import Tracker, TrackerName, open_tracker

log = logging.getLogger(__name__)


class Tracking:
    """Hands each step of the run in ``run_dir`` to the tracker ``name``, None: to none.

    It is opened with the first step, when the run's directory is there. Once it has failed, ``warn`` is told, and it is
    asked for nothing more.
    """

    def __init__(self, name: TrackerName | None, run_dir: Path, config: TrainConfig, warn: Say) -> None:
        self._name, self._run_dir, self._config, self._warn = name, run_dir, config, warn
        self._tracker: Tracker | None = None

    def log(self, metrics: StepMetrics) -> None:
        """Hand over a step; values that were not measured are left out."""
        numbers = {key: float(value) for key, value in asdict(metrics).items() if value is not None and key != "step"}

        def hand_over() -> None:
            if self._tracker is None and self._name is not None:
                self._tracker = open_tracker(self._name, self._run_dir, self._config.model_dump(), metrics.step)
            if self._tracker is not None:
                self._tracker.log(metrics.step, numbers)

        self._try(hand_over)

    def close(self) -> None:
        """Have the tracker write or send what is left."""
        if self._tracker is not None:
            self._try(self._tracker.close)
            self._tracker = None

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever a library raises, or a network
            log.debug("tracker %s", self._name, exc_info=True)
            why = " ".join(str(error).split())[:200] or type(error).__name__
            self._warn(f"{self._name}: {why.rstrip('.')}. The run is no longer tracked; training does not need it.")
            self._name = self._tracker = None
