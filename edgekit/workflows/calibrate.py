"""Fitting the marker bias of a run or a bundle to a share of cloud calls."""

from __future__ import annotations

from pathlib import Path

from edgekit.evaluate import calibrate as fitting
from edgekit.evaluate.calibrate import Calibration
from edgekit.folder_lock import lock_folder
from edgekit.progress import Progress
from edgekit.tasks import get_task, task_label
from edgekit.tasks.base import Split
from edgekit.workflows.source import AnyPath, is_bundle, open_source, task_of

SPLIT: Split = "validation"


def calibrate(
    source: AnyPath,
    call_fraction: float,
    *,
    task: str | None = None,
    n: int = 500,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Calibration:
    """Fit the marker bias to ``call_fraction`` on ``n`` validation problems and store it in routing.json.

    A task may have fewer problems than ``n``: the result says how many there were.

    ``source`` is a run or a bundle. Raises CheckFailed if the fraction cannot be reached, EdgekitError
    if another process is at work there.
    """
    path = Path(source)
    task = task_of(path, task)
    prompts = [problem.prompt for problem in get_task(task).problems(SPLIT, n, seed)]
    is_bundle(path)
    with lock_folder(path):
        result = fitting.calibrate(open_source(path), prompts, call_fraction, on_progress)
        facts = fitting.calibration_facts(result, task_label(task), SPLIT, seed)
        fitting.store_calibration(path, result, facts)
    return result
