"""Measuring a run or a bundle, with its cloud, on held-out problems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.atomic_write import require_place, write_file
from edgekit.cloud.answers import KeptCloud
from edgekit.cloud.bill import bill_of
from edgekit.cloud.client import Cloud
from edgekit.cloud.referee import require_judgeable
from edgekit.errors import EdgekitError
from edgekit.evaluate.answers import Evaluation, StepDecider
from edgekit.evaluate.answers import evaluate as measure
from edgekit.evaluate.calibrate import apply_calibration, calibrate, calibration_facts
from edgekit.evaluate.judge_agreement import JudgeAgreement, agreement_of
from edgekit.evaluate.plots import draw_curve
from edgekit.evaluate.records import write_records
from edgekit.progress import Progress
from edgekit.tasks import get_task, task_label
from edgekit.tasks.answered import Answered
from edgekit.workflows.behind import OWN, cloud_behind
from edgekit.workflows.calibrate import SPLIT
from edgekit.workflows.learned import appoint, is_judged, judge_of
from edgekit.workflows.prices import price_for
from edgekit.workflows.source import AnyPath, has_foreign_task, open_source, task_for, task_of

CALIBRATION_PROBLEMS = 500


@dataclass(frozen=True)
class Evaluated:
    """What was measured, on which task, and what to know of the cloud's replies.

    ``shortfall``: a line if it is below what was asked for.
    """

    task: str
    result: Evaluation
    cloud: str = "none"
    judge: JudgeAgreement | None = None
    notes: list[str] = field(default_factory=list)
    shortfall: str | None = None


def evaluate_source(
    source: AnyPath,
    *,
    task: str | None = None,
    n: int = 1000,
    seed: int = 0,
    call_fraction: float | None = None,
    cloud: str | Cloud | None = OWN,
    plot: AnyPath | None = None,
    results: AnyPath | None = None,
    judge: bool = False,
    min_accuracy: float | None = None,
    prices: AnyPath | None = None,
    on_bill: Callable[[str], None] | None = None,
    on_progress: Progress | None = None,
) -> Evaluated:
    """Measure how well a run or a bundle and its cloud answer ``n`` held-out problems.

    ``call_fraction`` calibrates to it first, on validation problems, without storing the bias. ``plot`` is a PNG to
    draw accuracy against call fraction to, ``results`` a file for a line of JSON a problem. A bundle whose task is not
    here is measured on its recorded prompts.
    ``judge`` has the cloud judge the device's answers too, and tells how far it agrees with the task's own labels.
    ``min_accuracy``: a share; the result says if overall accuracy is below it.
    ``on_bill`` is told first, in a sentence, what a real cloud may be asked; ``prices`` is a YAML table for it. Raises
    :class:`EdgekitError` for a source or cloud that cannot be had, or a file that cannot be written.
    """
    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        raise EdgekitError(f"bad threshold: {min_accuracy}. It is a share of the problems. Give a number from 0 to 1.")
    path = Path(source)
    recorded = task_for(path, None) if task is None and has_foreign_task(path) else None
    task = recorded.name if recorded else task_of(path, task)
    chosen = recorded or get_task(task)
    answerer = cloud_behind(source, cloud, chosen)
    appoint(chosen, answerer)
    if judge and isinstance(chosen, Answered):
        raise EdgekitError(f"no labels: {task}. A judge is measured on answers that are known. Use such a task.")
    price = price_for(prices, answerer)
    problems = chosen.problems("test", n, seed)
    for file in (plot, results):
        if file is not None:
            require_place(Path(file))
    judged = judge or is_judged(chosen)
    if judged:
        require_judgeable(problems)
    if isinstance(answerer, KeptCloud) and on_bill is not None:
        on_bill(bill_of(answerer, problems, verdicts=2 * len(problems) if judged else 0, price=price).sentence())
    decider = open_source(source)
    routing = decider.routing
    if call_fraction is not None:
        prompts = [problem.prompt for problem in chosen.problems(SPLIT, CALIBRATION_PROBLEMS, seed)]
        fit = calibrate(decider, prompts, call_fraction, _noted(on_progress, "calibrating"))
        routing = apply_calibration(routing, fit, calibration_facts(fit, task_label(task), SPLIT, seed))
    judging = judge_of(answerer) if judge else None
    if isinstance(decider, StepDecider):
        decider.hand_over_failures = True
    result = measure(decider, chosen, problems, answerer, routing=routing, on_progress=on_progress, judge=judging)
    if plot is not None:
        write_file(Path(plot), draw_curve(result, answerer.name if answerer else "none"))
    if results is not None:
        write_records(Path(results), result.records)
    agreement = None if result.judged is None else agreement_of(result.local_correct, result.judged)
    notes = [_failures(result.report.device_failed, result.report.n)] if result.report.device_failed else []
    if isinstance(answerer, KeptCloud) and (note := answerer.note()) is not None:
        notes.append(note)
    shortfall = None
    if min_accuracy is not None and result.report.overall_accuracy < min_accuracy:
        why = f"On {result.report.n} problems {min_accuracy:g} must be reached. Train on, or call more"
        shortfall = f"overall accuracy too low: {result.report.overall_accuracy:.4g}. {why}."
    return Evaluated(task, result, answerer.name if answerer else "none", agreement, notes, shortfall)


def _failures(failed: int, n: int) -> str:
    return f"the device's model failed on {failed} of {n} prompts, which were handed over: edgekit verify says more"


def _noted(progress: Progress | None, note: str) -> Progress | None:
    """``progress`` that says what is going on, for the part of the work that is not the work itself."""
    return None if progress is None else lambda done, total, _="": progress(done, total, note)
