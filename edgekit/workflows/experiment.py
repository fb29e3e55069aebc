"""Running an experiment: its configuration opened, every method trained and judged, the results read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.experiment.config import ExperimentConfig
from edgekit.experiment.run import open_experiment, read_results, run_experiment
from edgekit.progress import Progress
from edgekit.tasks import get_task
from edgekit.workflows.behind import check_named
from edgekit.workflows.learned import appoint, require_judge_reads
from edgekit.workflows.source import AnyPath, name_task_in, open_cloud
from edgekit.workflows.train import TRAINING_CALLS

DEFAULT = "quick"


@dataclass(frozen=True)
class Compared:
    """An experiment's configuration and what each method came to (the result files, by name)."""

    config: ExperimentConfig
    results: list[dict[str, Any]]


def compare_methods(
    config: AnyPath = DEFAULT,
    out: AnyPath = "out/experiment",
    *,
    settings: Sequence[str] = (),
    resume: bool = False,
    seeds: Sequence[int] | None = None,
    on_progress: Progress | None = None,
) -> Compared:
    """Train and judge every method under the same budgets of cloud calls, and write the report to ``out``.

    ``config`` is a preset's name or a YAML file, ``settings`` are overrides "key=value", ``seeds`` limits the work to
    these of its seeds. ``resume`` goes on, with what ``settings`` add. Raises :class:`EdgekitError` for a bad
    configuration, or if ``out`` holds anything that is not resumed.
    """
    if resume and config != DEFAULT:
        raise EdgekitError("resume: an experiment goes on with its own config. CONFIG does not apply. Leave it out.")
    name_task_in(settings)
    folder = Path(out)
    chosen = open_experiment(folder, str(config), list(settings), resume=resume, seeds=seeds)
    task = get_task(chosen.task)
    cloud = open_cloud(chosen.cloud, task, TRAINING_CALLS)
    if cloud is None:
        raise EdgekitError("cloud: none. An experiment compares who calls one. Use oracle.")
    if resume:
        check_named(folder, settings, _places(chosen), cloud)
    appoint(task, cloud)
    if not resume:
        require_judge_reads(task)
    run_experiment(chosen, folder, cloud=cloud, seeds=seeds, on_progress=on_progress)
    return Compared(chosen, read_results(folder))


def _places(config: ExperimentConfig) -> dict[str, str]:
    """What may lie on a network, by the setting that names it."""
    trained = {"train": config.train}
    trained |= {f"method_overrides.{name}": own for name, own in config.method_overrides.items()}
    rollouts = {f"{where}.rollouts": str(own["rollouts"]) for where, own in trained.items() if "rollouts" in own}
    return {"train.task": config.task, "cloud": config.cloud, **rollouts}
