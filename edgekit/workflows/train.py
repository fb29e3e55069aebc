"""Training a run: its configuration, the cloud it learns from, the base made if need be, the report drawn."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekit.cloud.answers import KeptCloud
from edgekit.cloud.openai_client import CallLimits
from edgekit.errors import CheckFailed, EdgekitError
from edgekit.policy.grid import load_grid
from edgekit.progress import Progress, Say
from edgekit.tasks import get_task
from edgekit.train import loop
from edgekit.train.config import TrainConfig, load_config
from edgekit.train.health import findings_now, learned_nothing
from edgekit.train.metrics import StepMetrics, read_metrics
from edgekit.train.parallel import is_first as is_first
from edgekit.train.parallel import join
from edgekit.train.plots import write_report
from edgekit.train.run_directory import read_run_config
from edgekit.train.start import start_of
from edgekit.train.trackers import TrackerName, require_tracker
from edgekit.train.tracking import Tracking
from edgekit.warm_start.bases import is_pretrained
from edgekit.workflows.behind import check_named
from edgekit.workflows.learned import appoint, require_judge_reads, training_bill
from edgekit.workflows.preflight import try_first
from edgekit.workflows.prices import price_for
from edgekit.workflows.source import AnyPath, name_task_in, open_cloud

log = logging.getLogger(__name__)

TRAINING_CALLS = CallLimits(seconds=300.0, retries=6)
"""A run waits longer for its cloud than a user does."""


def train(
    config: AnyPath = "default",
    out: AnyPath = "out/run",
    *,
    settings: Mapping[str, Any] | Sequence[str] = (),
    resume: bool = False,
    on_progress: Progress | None = None,
    on_warning: Say | None = None,
    prices: AnyPath | None = None,
    on_bill: Callable[[str], None] | None = None,
    track: TrackerName | None = None,
) -> Path:
    """Post-train a policy so that it answers what it can and calls the cloud when it cannot; returns ``out``.

    ``config`` is a preset's name or a YAML file, ``settings`` overrides its keys (a mapping, or texts "key=value").
    ``resume`` goes on from the last checkpoint in ``out`` with the run's own configuration, in which ``settings`` may
    then change only what a run that diverged needs changed, and raise ``steps`` where the schedule is constant. What a
    run that goes on names on a network, ``settings`` must name again, but for a cloud that this user has asked before.
    Under a launcher such as torchrun every process calls this; only the first writes, and calls ``on_progress``, and
    ``on_warning`` when something goes wrong that is no error, as :mod:`edgekit.train.health` sees it. What training
    needs is tried before anything that takes minutes. ``on_bill`` is told before that, in a sentence, what a real cloud
    may be asked; ``prices`` is a YAML table for it. ``track`` has TensorBoard or Weights & Biases take each step's
    numbers too; one that fails is a warning. Raises :class:`EdgekitError` for a bad configuration, a task that
    the base cannot read, a device, disk or cloud that is not as it must be, or if ``out`` holds anything that is not
    resumed; :class:`CheckFailed`, with the run written, if nothing at all was learned.
    """
    run_dir = Path(out)
    if track is not None:
        require_tracker(track)
    if resume and config != "default":
        raise EdgekitError("resume: a run goes on with its own config. CONFIG does not apply. Leave it out.")
    name_task_in(settings)
    chosen = read_run_config(run_dir, settings) if resume else load_config(str(config), settings)
    task = get_task(chosen.task)
    cloud = open_cloud(chosen.cloud, task, TRAINING_CALLS)
    if cloud is None:
        raise EdgekitError("cloud: none. Training needs a cloud to know what a call is worth. Use oracle.")
    if resume:
        places = {"task": chosen.task, "cloud": chosen.cloud, "rollouts": chosen.rollouts}
        check_named(run_dir, settings, places, cloud)
    appoint(task, cloud)
    if not resume:
        require_judge_reads(task)
    bill = training_bill(chosen, task, cloud, price_for(prices, cloud))
    if bill is not None and on_bill is not None:
        on_bill(bill.sentence())
    report = on_progress or (lambda *_: None)

    def warm_up(done: int, total: int, note: str = "", /) -> None:
        report(done, total, f"warm start {note}".rstrip())

    with join(os.environ) as ranks:
        if not resume:
            ranks.from_first(lambda: try_first(chosen, run_dir, cloud))
        if is_pretrained(chosen.base):
            log.info("base policy: %s", ranks.from_first(lambda: start_of(chosen, load_grid(run_dir), warm_up)[0]))
        tracking = Tracking(track if ranks.is_first else None, run_dir, chosen, on_warning or (lambda _: None))
        watch = _Watch(chosen, report, on_warning, tracking)
        with closing(tracking):
            loop.train(chosen, run_dir, cloud=cloud, resume=resume, on_step=watch, ranks=ranks)
        note = cloud.note() if isinstance(cloud, KeptCloud) else None
        if ranks.is_first and note is not None and on_warning is not None:
            on_warning(note)
    if ranks.is_first:
        write_report(run_dir)
        if learned_nothing(read_metrics(run_dir)):
            raise CheckFailed(
                f"nothing was learned: {run_dir}. In none of {chosen.steps} steps did a response to a prompt earn more "
                f"than another, so the policy is its base. {run_dir / 'report' / 'index.md'} says what to try."
            )
    return run_dir


class _Watch:
    """Tells how far a run is after each step, its tracker too, and once of each thing that goes wrong."""

    def __init__(self, config: TrainConfig, report: Progress, warn: Say | None, tracking: Tracking) -> None:
        self.config, self.report, self.warn, self.tracking = config, report, warn or (lambda _: None), tracking
        self.told, self.steps = set[str](), list[dict[str, Any]]()

    def __call__(self, metrics: StepMetrics) -> None:
        self.steps.append(asdict(metrics))
        for finding in findings_now(self.steps, self.config.algorithm):
            if finding.kind not in self.told:
                self.warn(f"step {metrics.step}: {finding.text}")
            self.told.add(finding.kind)
        shares = f"local {metrics.local_accuracy:.2f}  calls {metrics.call_fraction:.2f}"
        note = f"reward {metrics.reward:.2f}  {shares}  D1 {metrics.d1}  D2 {metrics.d2}"
        self.report(metrics.step, self.config.steps, note)
        self.tracking.log(metrics)
