"""Running an experiment: each training run once, each method judged on its run, everything kept as it comes.

EXP/experiment.yaml         the resolved configuration
EXP/cloud_answers.jsonl     what the cloud said to each problem, asked once
EXP/runs/NAME-seedS/        ordinary training runs (their checkpoints are removed once the policy is there)
EXP/results/METHOD-seedS.json
EXP/report/                 the page and the table

Going on takes what is finished as it is and the rest from where it stopped; every part is a function of the
configuration, so the results are those of an experiment that was never stopped.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.atomic_write import new_directory, sweep, write_file
from edgekit.cloud.client import Cloud
from edgekit.cloud.ledger import CloudLedger
from edgekit.errors import ConfigError, EdgekitError
from edgekit.experiment.candidate import Candidate, Exam
from edgekit.experiment.config import FILE, ExperimentConfig, grown, load_experiment_config
from edgekit.experiment.judge import Verdict, judge
from edgekit.experiment.methods import WARM_START, run_of
from edgekit.folder_lock import claim
from edgekit.policy.checkpoint import save_policy
from edgekit.policy.grid import load_grid
from edgekit.progress import Progress
from edgekit.record_lines import read_records
from edgekit.tasks import get_task
from edgekit.train.loop import train
from edgekit.train.metrics import StepMetrics
from edgekit.train.run_directory import read_run_config
from edgekit.train.start import start_of, untrained_policy
from edgekit.train.task_file import check_task
from edgekit.warm_start.bases import is_pretrained

STEPS_PER_VERDICT = 10
"""How many training steps judging a method counts as in the progress."""


def open_experiment(
    out: Path, name: str, overrides: list[str], *, resume: bool, seeds: Sequence[int] | None = None
) -> ExperimentConfig:
    """The configuration of a new experiment in ``out``, or of the one there, with what ``overrides`` add.

    ``seeds`` are those to work on, None all. Raises :class:`EdgekitError` if one is not the experiment's, if ``out``
    holds anything and ``resume`` is false, or no experiment and it is true.
    """
    file = out / FILE
    sweep(out)
    if resume:
        if not file.is_file():
            raise EdgekitError(f"not an experiment: {out}. It has no {FILE}. Check the path, or leave out --resume.")
        config = grown(load_experiment_config(str(file)), overrides)
    else:
        config = load_experiment_config(name, overrides)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            what = "an experiment" if file.exists() else "something else"
            raise EdgekitError(f"output exists: {out}. It holds {what}. Use --resume to go on, or another --out.")
    _chosen(config, seeds)
    return config


def run_experiment(
    config: ExperimentConfig,
    out: Path,
    *,
    cloud: Cloud,
    seeds: Sequence[int] | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Write the configuration to ``out`` (see :func:`open_experiment`), do what is left of it, then write the report.

    ``seeds`` limits the work to these of its seeds: processes with different ones may share ``out``. Raises
    :class:`EdgekitError` if a seed is not the experiment's, another process is at one, or a run in ``out`` has another
    configuration.
    """
    from edgekit.experiment.report import write_report

    chosen = _chosen(config, seeds)
    file, text = out / FILE, config.to_yaml()
    if not file.is_file() or file.read_text() != text:
        write_file(file, text)
    with ExitStack() as held:
        for seed in chosen:
            held.enter_context(claim(out, f"seed{seed}"))
        _run_jobs(config, out, cloud, chosen, on_progress)
    write_report(out)


def _chosen(config: ExperimentConfig, seeds: Sequence[int] | None) -> tuple[int, ...]:
    chosen = tuple(config.seeds if seeds is None else seeds)
    if unknown := sorted(set(chosen) - set(config.seeds)):
        raise EdgekitError(f"unknown seed: {unknown[0]}. The experiment has {list(config.seeds)}. Choose of those.")
    return chosen


def _run_jobs(
    config: ExperimentConfig, out: Path, cloud: Cloud, seeds: Sequence[int], on_progress: Progress | None
) -> None:
    todo = list(_jobs(config, out, seeds))
    if todo:
        exam = _exam(config, CloudLedger(cloud, get_task(config.task), out / "cloud_answers.jsonl"))
        tracker = _Tracker(sum(job.size for job in todo), on_progress)
        for job in todo:
            _do(job, config, out, exam, tracker)


def read_results(out: Path) -> list[dict[str, Any]]:
    """The result files of the experiment in ``out``, by name."""
    return [json.loads(path.read_text()) for path in sorted((out / "results").glob("*.json"))]


@dataclass(frozen=True)
class _Job:
    """One training run of one seed and the methods still to be judged on it."""

    run: str
    seed: int
    methods: tuple[str, ...]
    steps: int

    @property
    def name(self) -> str:
        """The run's folder."""
        return f"{self.run}-seed{self.seed}"

    @property
    def size(self) -> int:
        return self.steps + STEPS_PER_VERDICT * len(self.methods)


@dataclass
class _Tracker:
    """How far the whole experiment is."""

    total: int
    report: Progress | None
    done: int = 0
    doing: str = ""

    def tell(self, note: str, within: int = 0) -> None:
        """Say what happens in what is being done, ``within`` steps of which are over."""
        if self.report is not None:
            self.report(self.done + within, self.total, f"{self.doing}: {note}")

    def warm_start(self, done: int, total: int, note: str = "", /) -> None:
        """How far the warm start is, which no step counts."""
        self.tell(f"warm start {done}/{total} {note}")


def _jobs(config: ExperimentConfig, out: Path, seeds: Sequence[int]) -> Iterator[_Job]:
    for seed in seeds:
        for run in config.runs():
            methods = [method for method in config.methods if run_of(method) == run]
            left = tuple(method for method in methods if not _result_file(out, method, seed).exists())
            if left:
                steps = 0 if run == WARM_START else config.train_config(run, seed).steps
                yield _Job(run, seed, left, steps)


def _result_file(out: Path, method: str, seed: int) -> Path:
    return out / "results" / f"{method}-seed{seed}.json"


def _exam(config: ExperimentConfig, cloud: CloudLedger) -> Exam:
    """Draws every problem before any work, so that asking for too many fails at once."""
    task, seed = get_task(config.task), config.problem_seed
    validation = task.problems("validation", config.n_validation, seed)
    test = task.problems("test", config.n_test, seed)
    router_train = task.problems("train", config.n_router_train, seed)
    return Exam(task, validation, test, router_train, cloud, config.router_encoder, config.trigger_tries)


def _do(job: _Job, config: ExperimentConfig, out: Path, exam: Exam, tracker: _Tracker) -> None:
    run_dir = out / "runs" / job.name
    if job.run == WARM_START:
        _only_start(job, config, run_dir, tracker)
    else:
        _train(job, config, run_dir, exam.cloud, tracker)
    tracker.done += job.steps
    device = config.train_config(job.run, job.seed).device
    candidate = Candidate(run_dir / "policy", job.seed, exam, tracker.tell, device)
    for method in job.methods:
        tracker.doing = f"{method} seed {job.seed}"
        tracker.tell("judging")
        verdict = judge(method, candidate, config.call_fractions)
        result = _result(method, job, config, candidate, verdict, _training_calls(run_dir))
        write_file(_result_file(out, method, job.seed), json.dumps(result, allow_nan=False) + "\n")
        tracker.done += STEPS_PER_VERDICT
        tracker.tell("done")


def _only_start(job: _Job, config: ExperimentConfig, run_dir: Path, tracker: _Tracker) -> None:
    """Put the policy that the seed's runs start from where theirs lie."""
    tracker.doing = f"warm start, seed {job.seed}"
    if not (run_dir / "policy" / "routing.json").is_file():
        settings = config.train_config(job.run, job.seed)
        folder, grid = start_of(settings, None, tracker.warm_start)
        with new_directory(run_dir / "policy", marker_file="routing.json") as made:
            save_policy(untrained_policy(settings, folder, grid), made)


def _train(job: _Job, config: ExperimentConfig, run_dir: Path, cloud: Cloud, tracker: _Tracker) -> None:
    """Train the run, or what is left of it."""
    settings = config.train_config(job.run, job.seed)
    tracker.doing = f"training {job.run} seed {job.seed}"
    if run_dir.exists() and not (run_dir / "config.yaml").exists():
        shutil.rmtree(run_dir)  # killed before the run had begun
    resume = run_dir.exists()
    if (run_dir / "policy" / "routing.json").is_file():
        saved, wanted = read_run_config(run_dir).model_dump(), settings.model_dump()
        if changed := [
            f"{key}: {wanted[key]!r}, the run has {saved[key]!r}" for key in saved if saved[key] != wanted[key]
        ]:
            raise ConfigError(f"cannot go on with {run_dir}", changed)
        check_task(run_dir, settings.task)
    else:
        tracker.tell("starting")
        if is_pretrained(settings.base):
            start_of(settings, load_grid(run_dir), tracker.warm_start)

        def show(metrics: StepMetrics) -> None:
            numbers = f"local {metrics.local_accuracy:.2f} calls {metrics.call_fraction:.2f}"
            tracker.tell(f"step {metrics.step}/{job.steps} {numbers}", metrics.step)

        train(settings, run_dir, cloud=cloud, resume=resume, on_step=show)
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)  # the policy is there: nothing goes on from them


def _training_calls(run_dir: Path) -> int:
    steps = run_dir / "metrics.jsonl"
    return sum(record["cloud_calls"] for _, record in read_records(steps, "cloud_calls")) if steps.is_file() else 0


def _result(
    method: str, job: _Job, config: ExperimentConfig, candidate: Candidate, verdict: Verdict, training_calls: int
) -> dict[str, Any]:
    problems = candidate.exam.test
    return {
        "method": method,
        "seed": job.seed,
        "algorithm": job.run,
        "task": config.task,
        "n_validation": len(candidate.exam.validation),
        "n_test": len(problems),
        "cloud_calls_in_training": training_calls,
        "training_prompts": verdict.training_prompts,
        "test": {
            "ids": [problem.id for problem in problems],
            "difficulty": [problem.difficulty for problem in problems],
            "local_correct": candidate.test.correct,
            "cloud_correct": candidate.exam.cloud_test,
            "scores": [None if score == math.inf else score for score in verdict.scores],
        },
        "budgets": verdict.budgets,
        "natural": verdict.natural,
        "trigger": verdict.trigger,
        "notes": f"{verdict.notes} {candidate.exam.caution}".strip(),
    }
