"""Fitting the marker bias of a run or a bundle to a share of cloud calls."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundle.conformance import CONFORMANCE, read_conformance
from edgekit.bundle.manifest import read_manifest
from edgekit.evaluate import calibrate as fitting
from edgekit.evaluate.calibrate import Calibration
from edgekit.folder_lock import lock_folder
from edgekit.progress import Progress
from edgekit.tasks import get_task, task_label
from edgekit.tasks.base import Split
from edgekit.workflows.source import AnyPath, has_foreign_task, is_bundle, open_source, task_of

SPLIT: Split = "validation"
RECORDED = "recorded"
"""What routing.json calls the prompts in a bundle's conformance.jsonl, where they were fitted on."""


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

    A task may have fewer problems than ``n``: the result says how many there were. A bundle whose task is not here is
    fitted on its recorded prompts, which are few.

    ``source`` is a run or a bundle. Raises CheckFailed if the fraction cannot be reached, EdgekitError
    if another process is at work there.
    """
    path = Path(source)
    prompts, label, split = _prompts(path, task, n, seed)
    is_bundle(path)
    with lock_folder(path):
        result = fitting.calibrate(open_source(path), prompts, call_fraction, on_progress)
        facts = fitting.calibration_facts(result, label, split, seed)
        fitting.store_calibration(path, result, facts)
    return result


def _prompts(source: Path, task: str | None, n: int, seed: int) -> tuple[list[str], str, str]:
    """What to fit on, of which task, and of which split of it."""
    if task is None and has_foreign_task(source):
        cases = read_conformance(source / CONFORMANCE)
        return [case.prompt for case in cases[:n]], read_manifest(source).provenance.get("task", ""), RECORDED
    name = task_of(source, task)
    return [problem.prompt for problem in get_task(name).problems(SPLIT, n, seed)], task_label(name), SPLIT
