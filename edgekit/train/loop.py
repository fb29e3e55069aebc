"""The training loop: sample groups of responses, grade them, let the algorithm plan, update the policy.

Every random choice of a step comes from (seed, step), so a run that was killed goes on from its last
checkpoint bit for bit, on the same machine with the same number of threads and processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from edgekit.cloud.client import Cloud
from edgekit.cloud.ledger import CloudLedger
from edgekit.cloud.request import CloudError
from edgekit.errors import EdgekitError, FailedElsewhere, NotFinite
from edgekit.free_memory import FreeMemory
from edgekit.rollout.response import Group
from edgekit.tasks import get_task
from edgekit.tasks.answered import gather_references
from edgekit.tasks.base import Problem
from edgekit.train.algorithms import Outcomes, Plan, algorithm_of
from edgekit.train.batches import Sample, samples_of
from edgekit.train.config import TrainConfig
from edgekit.train.early_marker import teach_early_marker
from edgekit.train.grading import grade_group
from edgekit.train.health import UNMOVED_STEPS
from edgekit.train.held_out import evaluate_held_out
from edgekit.train.metrics import StepMetrics, outcome_metrics, plan_metrics, update_metrics
from edgekit.train.moved import MovedIntegers
from edgekit.train.parallel import ALONE, Ranks
from edgekit.train.pool import step_problems, training_pool
from edgekit.train.responses import responses_of
from edgekit.train.reward import Outcome
from edgekit.train.run_directory import RunDirectory
from edgekit.train.start import start_of, starting_policy
from edgekit.train.streams import Use, stream_seed
from edgekit.train.update import PolicyUpdate, check_finite, learning_rate


def train(
    config: TrainConfig,
    run_dir: Path,
    *,
    cloud: Cloud,
    resume: bool = False,
    on_step: Callable[[StepMetrics], None] | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Post-train ``config``'s base and write the run directory; ``policy/`` appears at the end.

    ``resume`` goes on from the last checkpoint; ``config`` must then be the run's own but for what may change
    (:data:`CHANGEABLE`). ``on_step`` sees each step's metrics once they are on disk. ``ranks``: the processes
    that share this run, each calling this with the same arguments; only the first writes, and calls ``on_step``.
    Raises :class:`EdgekitError` if ``run_dir`` holds a run and ``resume`` is false, or holds none and it is true, if
    another process is training there, and where a step's numbers are infinite or NaN: that step is not taken, and the
    run can go on.
    """
    with ExitStack() as held:
        directory = RunDirectory(run_dir)
        ranks.from_first(lambda: directory.start(config, ranks.world, held, resume=resume))
        _train(_Run(config, directory, cloud, ranks), on_step)


def _train(run: _Run, on_step: Callable[[StepMetrics], None] | None) -> None:
    """Take the steps that are left."""
    config, directory, ranks = run.config, run.directory, run.ranks
    if ranks.is_first:
        directory.begin(config, run.policy.grid)
    memory = FreeMemory()
    for step in range(run.restore() + 1, config.steps + 1):
        begin = time.perf_counter()
        try:
            metrics = run.step(step)
            memory.keep_low()
            at_checkpoint = step % config.checkpoint_every == 0 or step == config.steps
            if at_checkpoint:
                check_finite(run.update.weights.moved)
        except NotFinite as error:
            ranks.from_first(partial(_stop, directory, config, step, str(error)))
        except CloudError as error:
            raise _unanswered(run, step, error) from None
        if not ranks.is_first:
            continue
        directory.record(metrics, time.perf_counter() - begin)
        if at_checkpoint:
            directory.save(step, run.update, run.algorithm)
        if on_step is not None:
            on_step(metrics)
    if ranks.is_first:
        directory.finish(run.policy, run.update.weights.floats())


def _stop(directory: RunDirectory, config: TrainConfig, step: int, reason: str) -> NoReturn:
    last = directory.last_checkpoint()
    where = f"The last good checkpoint is step {last}" if last else "There is no checkpoint yet"
    raise EdgekitError(
        f"training diverged: step {step}, {reason}. {where}; learning_rate is {config.learning_rate:g}. "
        f"Go on with a lower one: edgekit train --resume --out {directory.path} --set learning_rate=X."
    )


def _unanswered(run: _Run, step: int, error: CloudError) -> EdgekitError:
    """The cloud failed, retries and all: what was learned before ``step`` is kept, and the run can go on there."""
    if run.ranks.is_first and run.taken == step - 1 > run.directory.last_checkpoint():
        run.directory.save(step - 1, run.update, run.algorithm)
    return EdgekitError(
        f"training stopped: step {step}, {str(error).rstrip('.')}. Nothing is lost, answers that were paid for are "
        f"kept. Go on when the cloud is back: edgekit train --resume --out {run.directory.path}.",
        error.kind,
    )


class _Run:
    """A run between steps: its parts, each of which does its own share of a step."""

    def __init__(self, config: TrainConfig, directory: RunDirectory, cloud: Cloud, ranks: Ranks) -> None:
        self.config, self.directory, self.ranks = config, directory, ranks
        self.task = get_task(config.task)
        folder, grid = ranks.from_first(lambda: start_of(config, directory.grid()))
        self.policy = starting_policy(config, folder, grid)
        self.pool = training_pool(self.task, self.policy, config)
        self.held_out = self.task.problems("validation", config.eval_n, config.seed) if config.eval_n else []
        self.update = PolicyUpdate(self.policy.model, config, ranks, None if grid is None else grid.quantize)
        rounded = self.update.weights.integers() if ranks.is_first else ()
        self.moved = MovedIntegers(rounded) if rounded else None
        self.responses = responses_of(config, self.policy, directory.path, ranks)
        self.algorithm = algorithm_of(dict(config), self.policy.routing.max_new_tokens)
        self.ledger = CloudLedger(cloud, self.task, directory.ledger)
        self.taken = 0
        """The last step whose update is in the weights."""

    def restore(self) -> int:
        """Go back to the last checkpoint, if there is one; returns its step, else 0."""
        step = self.ranks.from_first(self._rewind)
        if step and not self.ranks.is_first:
            self.directory.load(step, self.update, self.algorithm)
        if not step and self.ranks.is_first and self.config.early_marker_share:
            seed = stream_seed(self.config.seed, Use.EARLY, 0)
            teach_early_marker(self.policy, self.update.weights, self.task, self.pool, self.config, seed=seed)
        self.ranks.copy_first(self.update.weights.moved.parameters())
        self.update.weights.refresh()
        self.taken = step
        return step

    def _rewind(self) -> int:
        step = self.directory.rewind()
        if step:
            self.directory.load(step, self.update, self.algorithm)
        return step

    def step(self, step: int) -> StepMetrics:
        """Sample and grade, ask the cloud, plan, update; and evaluate when it is time."""
        config = self.config
        problems = step_problems(self.pool, step, config)
        groups, outcomes = self._attempts(step, problems)
        cloud_right = self.ranks.from_first(lambda: self._ask_cloud(step, problems, outcomes))
        plan = self.algorithm.plan(outcomes, cloud_right, seed=stream_seed(config.seed, Use.FILTER, step))
        own_metrics = self.algorithm.observe(outcomes)
        rate = learning_rate(config, step)
        due = step % config.eval_every == 0 or step == config.steps
        if due:  # before the weights move: a cloud that fails then costs no step
            self.ranks.from_first(partial(gather_references, self.task, self.held_out))
        report = self.update.apply(self._samples(groups, plan), plan.divisor, rate)
        self.taken = step
        evaluate = partial(evaluate_held_out, self.policy, self.task, self.held_out)
        held_out: dict[str, Any] = self.ranks.from_first(evaluate) if due else {}
        looks = due or step == UNMOVED_STEPS
        return StepMetrics(
            step=step,
            learning_rate=rate,
            moved=self.moved.share() if self.moved is not None and looks else None,
            cloud_calls=self.ranks.from_first(lambda: self.ledger.asked_in(step)),
            **plan_metrics(plan),
            **outcome_metrics(outcomes),
            **own_metrics,
            **update_metrics(report),
            **held_out,
        )

    def _attempts(self, step: int, problems: Sequence[Problem]) -> tuple[Sequence[Group], Outcomes]:
        """Each problem's group of responses and what they came to; every process samples and grades its share."""
        share = self.ranks.share(problems)
        mine: list[tuple[Group, list[Outcome]]] | NotFinite | CloudError
        try:
            groups = self.responses.sample(step, share)
            gather_references(self.task, share)
            routing = self.policy.routing
            mine = [(g, grade_group(self.task, problem, g, routing)) for problem, g in zip(share, groups, strict=True)]
        except (NotFinite, CloudError) as error:
            mine = error  # told to all, or the others would wait for this process
        parts = self.ranks.gather([mine])
        for part in parts:
            if isinstance(part, CloudError) and not self.ranks.is_first:
                raise FailedElsewhere(str(part))
            if isinstance(part, NotFinite | CloudError):
                raise part
        attempts = [attempt for part in parts if isinstance(part, list) for attempt in part]
        return [group for group, _ in attempts], [outcomes for _, outcomes in attempts]

    def _ask_cloud(self, step: int, problems: Sequence[Problem], outcomes: Outcomes) -> list[bool]:
        """Whether the cloud answers each problem rightly, false where nobody ever asked; asks where a plan needs it."""
        asked = [p for p, group in zip(problems, outcomes, strict=True) if self.algorithm.needs_cloud(group)]
        self.ledger.fetch(asked, step=step)
        return [self.ledger.is_known_right(problem) for problem in problems]

    def _samples(self, groups: Sequence[Group], plan: Plan) -> list[Sample]:
        """This process's share of the kept responses that teach something."""
        advantages = plan.advantages.tolist()
        teaching = [index for index in plan.kept.indices if any(advantages[index])]
        own = teaching[self.ranks.rank :: self.ranks.world]
        return [sample for index in own for sample in samples_of(index, groups[index], advantages[index])]
