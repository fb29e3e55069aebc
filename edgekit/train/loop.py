"""The training loop: sample groups of responses, grade them, let the algorithm plan, update the policy.

Every random choice of a step comes from (seed, step), so a run that was killed goes on from its last
checkpoint bit for bit, on the same machine with the same number of threads and processes.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.atomic_write import new_directory, sweep, write_file
from edgekit.cloud.client import Cloud
from edgekit.errors import ConfigError, EdgekitError
from edgekit.folder_lock import lock_folder
from edgekit.policy.checkpoint import Policy, load_policy, save_policy
from edgekit.policy.device import open_device
from edgekit.policy.reference import decode_batch
from edgekit.rollout.sampler import Group, sample_groups
from edgekit.rollout.server import KEY_VARIABLE, RolloutServer, server_address
from edgekit.tasks import get_task
from edgekit.tasks.base import Problem, Task
from edgekit.train.algorithms import Algorithm
from edgekit.train.batches import samples_of
from edgekit.train.checkpoint import checkpoint_steps, load_checkpoint, save_checkpoint
from edgekit.train.config import TrainConfig, load_config
from edgekit.train.early_marker import teach_early_marker
from edgekit.train.metrics import StepMetrics, append_line, append_metrics, truncate_lines
from edgekit.train.parallel import ALONE, Ranks, check_shares
from edgekit.train.pool import step_problems, training_pool
from edgekit.train.reward import Outcome, emitted_call, well_formed
from edgekit.train.update import PolicyUpdate
from edgekit.warm_start.bases import run_base

# What a (seed, step) pair is used for; each use has its own stream.
SHUFFLE, SAMPLE, FILTER, EARLY = range(4)
SERVED = "served_policy"
"""Where a run's present weights lie for a rollout server to read."""


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

    ``resume`` goes on from the last checkpoint; ``config`` must then be the run's own
    (:func:`read_run_config`). ``on_step`` sees each step's metrics once they are on disk. ``ranks``: the processes
    that share this run, each calling this with the same arguments; only the first writes, and calls ``on_step``.
    Raises :class:`EdgekitError` if ``run_dir`` holds a run and ``resume`` is false, or holds none and it is true, or if
    another process is training there.
    """
    with ExitStack() as held:
        ranks.from_first(lambda: _start(config, run_dir, resume, ranks, held))
        _train(config, run_dir, cloud, resume, on_step, ranks)


def _train(
    config: TrainConfig,
    run_dir: Path,
    cloud: Cloud,
    resume: bool,
    on_step: Callable[[StepMetrics], None] | None,
    ranks: Ranks,
) -> None:
    run = _Run(config, run_dir, cloud, ranks)
    if ranks.is_first and not resume:
        write_file(run_dir / "config.yaml", config.to_yaml())
    for step in range(run.restore() + 1, config.steps + 1):
        begin = time.perf_counter()
        metrics = run.step(step)
        if not ranks.is_first:
            continue
        append_metrics(run_dir / "metrics.jsonl", metrics)
        append_line(run_dir / "timings.jsonl", {"step": step, "seconds": round(time.perf_counter() - begin, 3)})
        if step % config.checkpoint_every == 0 or step == config.steps:
            folder, price = run_dir / "checkpoints", run.algorithm.call_price
            save_checkpoint(folder, step, run.update.model, run.update.optimizer, price)
        if on_step is not None:
            on_step(metrics)
    if ranks.is_first:
        with new_directory(run_dir / "policy", marker_file="routing.json") as folder:
            save_policy(run.policy, folder)
        shutil.rmtree(run_dir / SERVED, ignore_errors=True)


def read_run_config(run_dir: Path) -> TrainConfig:
    """The configuration of the run in ``run_dir``. Raises :class:`EdgekitError` if there is none."""
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise EdgekitError(f"not a run: {run_dir}. It has no config.yaml. Check the path, or train without --resume.")
    return load_config(str(path))


def _start(config: TrainConfig, run_dir: Path, resume: bool, ranks: Ranks, held: ExitStack) -> None:
    """Lock the run's folder until ``held`` is left, and see that it is this run's."""
    check_shares(config.prompts_per_step, ranks.world)
    if not resume and (run_dir.is_dir() or not run_dir.exists()):
        run_dir.mkdir(parents=True, exist_ok=True)
        held.callback(_remove_empty, run_dir)
    if run_dir.is_dir():
        held.enter_context(lock_folder(run_dir))
        sweep(run_dir)
    if resume:
        saved, given = read_run_config(run_dir).model_dump(), config.model_dump()
        changed = [f"{key}: {given[key]!r}, the run has {saved[key]!r}" for key in saved if saved[key] != given[key]]
        if changed:
            raise ConfigError(f"cannot resume {run_dir} with another config", changed)
    elif not run_dir.is_dir() or any(run_dir.iterdir()):
        what = "a run" if (run_dir / "config.yaml").exists() else "something else"
        raise EdgekitError(f"output exists: {run_dir}. It holds {what}. Use --resume to go on, or another --out.")


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@dataclass
class _Run:
    """A run's state between steps."""

    config: TrainConfig
    run_dir: Path
    cloud: Cloud
    ranks: Ranks
    task: Task = field(init=False)
    policy: Policy = field(init=False)
    pool: list[Problem] = field(init=False)
    update: PolicyUpdate = field(init=False)
    algorithm: Algorithm = field(init=False)
    cloud_correct: dict[str, bool] = field(default_factory=dict)
    cloud_asked: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = self.config
        self.task = get_task(config.task)
        base = self.ranks.from_first(lambda: run_base(config))
        self.policy = load_policy(base)
        self.policy.model.to(open_device(config.device))
        # A bias calibrated for the base says nothing about the policy trained here.
        natural = {"marker_bias": 0.0, "calibrated_call_fraction": None}
        self.policy.routing = self.policy.routing.model_copy(update=natural)
        self.pool = training_pool(self.task, self.policy, config)
        self.held_out = self.task.problems("validation", config.eval_n, config.seed) if config.eval_n else []
        self.update = PolicyUpdate(self.policy.model, config, self.ranks)
        address = server_address(config.rollouts)
        self.server = RolloutServer(*address, os.environ.get(KEY_VARIABLE, "")) if address else None
        if self.server is not None:
            self.ranks.from_first(self.server.check)
        self.algorithm = Algorithm(config, config.max_new_tokens or self.policy.routing.max_new_tokens)

    def restore(self) -> int:
        """Go back to the last checkpoint, if there is one; returns its step, else 0."""
        step = self.ranks.from_first(self._restore_files)
        if step and not self.ranks.is_first:
            self._load(step)
        if not step and self.ranks.is_first and self.config.early_marker_share:
            seed = self.seed(EARLY, 0)
            teach_early_marker(self.policy, self.update.model, self.task, self.pool, self.config, seed=seed)
        self.ranks.copy_first(self.update.model.parameters())
        self.update.merge()
        return step

    def _load(self, step: int) -> None:
        folder = self.run_dir / "checkpoints"
        self.algorithm.call_price = load_checkpoint(folder, step, self.update.model, self.update.optimizer)

    def _restore_files(self) -> int:
        """Load the last checkpoint and cut the run's files back to it; returns its step, else 0."""
        folder = self.run_dir / "checkpoints"
        sweep(folder)
        step = max(checkpoint_steps(folder), default=0)
        if step:
            self._load(step)
        truncate_lines(self.run_dir / "metrics.jsonl", step)
        truncate_lines(self.run_dir / "timings.jsonl", step)
        # Answers given after the checkpoint stay: the steps run again need the very same ones, and no
        # prompt is sent twice.
        for answer in truncate_lines(self.run_dir / "cloud_answers.jsonl", self.config.steps, private=True):
            self.cloud_correct[answer["id"]] = answer["correct"]
            self.cloud_asked[answer["id"]] = answer["step"]
        return step

    def step(self, step: int) -> StepMetrics:
        """Sample, reward, filter, update, and evaluate when it is time."""
        config = self.config
        problems = step_problems(self.pool, step, config.prompts_per_step, lambda epoch: self.seed(SHUFFLE, epoch))
        share = self.ranks.share(problems)
        sampled = self.sample(step, share)
        graded = [(group, self.outcomes(problem, group)) for problem, group in zip(share, sampled, strict=True)]
        groups, outcomes = zip(*self.ranks.gather(graded), strict=True)
        asked = [p for p, group in zip(problems, outcomes, strict=True) if self.algorithm.needs_cloud(group)]
        cloud_calls = self.ranks.from_first(lambda: self.ask_cloud(step, asked))
        cloud_correct = self.ranks.from_first(lambda: [self.cloud_correct.get(p.id, False) for p in problems])
        plan = self.algorithm.plan(outcomes, cloud_correct, seed=self.seed(FILTER, step))
        call_price = self.algorithm.call_price if config.algorithm == "da_grpo" else None
        self.algorithm.observe(outcomes)
        kept, advantages = plan.kept, plan.advantages.tolist()
        teaching = [index for index in kept.indices if any(advantages[index])]
        samples = [
            sample
            for index in teaching[self.ranks.rank :: self.ranks.world]
            for sample in samples_of(index, groups[index], advantages[index])
        ]
        loss, grad_norm = self.update.apply(samples, len(kept.indices), self.learning_rate(step))
        flat = [outcome for group in outcomes for outcome in group]
        right, called = sum(o.correct for o in flat), sum(o.called for o in flat)
        return StepMetrics(
            step=step,
            reward=float(plan.rewards.mean()),
            local_accuracy=right / len(flat),
            kept_accuracy=right / max(1, len(flat) - called),
            call_fraction=called / len(flat),
            d1=len(kept.d1),
            d2_candidates=len(kept.d2_candidates),
            d2=len(kept.d2),
            prompts_kept=len(kept.indices),
            mean_tokens=sum(o.tokens for o in flat) / len(flat),
            tokens_before_call=sum(o.tokens for o in flat if o.called) / called if called else None,
            call_price=call_price,
            loss=loss,
            grad_norm=grad_norm,
            learning_rate=self.learning_rate(step),
            cloud_calls=cloud_calls,
            **(self.ranks.from_first(self.evaluate) if step % config.eval_every == 0 or step == config.steps else {}),
        )

    def sample(self, step: int, problems: Sequence[Problem]) -> list[Group]:
        """Groups of responses to ``problems``, this process's share of the step's."""
        config, prompts = self.config, [self.policy.encode(problem.prompt) for problem in problems]
        settings: dict[str, Any] = {
            "temperature": config.temperature,
            "seed": self.seed(SAMPLE, step),
            "first": self.ranks.rank * len(problems),
            "max_new_tokens": config.max_new_tokens,
        }
        if self.server is None:
            here: dict[str, Any] = {"rows_per_batch": config.rows_per_rollout, "bfloat16": config.bfloat16}
            return sample_groups(self.policy, prompts, config.group_size, **settings, **here)
        server = self.server
        self.ranks.from_first(lambda: self.publish(server))
        return server.sample_groups(self.policy, prompts, config.group_size, **settings)

    def publish(self, server: RolloutServer) -> None:
        """Give ``server`` the present weights."""
        with new_directory(self.run_dir / SERVED, marker_file="routing.json") as folder:
            save_policy(self.policy, folder)
        server.load_weights(self.run_dir / SERVED)

    def outcomes(self, problem: Problem, group: Group) -> list[Outcome]:
        """What each response of a group came to; equal answers are graded once."""
        answers = {response.answer for response in group.responses if response.answer is not None}
        right = {answer: self.task.grade(problem, answer) for answer in answers}
        return [
            Outcome(
                emitted_call(r),
                r.answer is not None and right[r.answer],
                well_formed(r, self.policy.routing),
                len(r.token_ids),
            )
            for r in group.responses
        ]

    def ask_cloud(self, step: int, problems: Sequence[Problem]) -> int:
        """Have the cloud's answers to ``problems`` graded, each problem once a run; returns this step's calls."""
        for problem in problems:
            if problem.id in self.cloud_correct:
                continue
            answer = self.cloud.answer(problem)
            correct = self.task.grade(problem, answer)
            record = {"step": step, "id": problem.id, "answer": answer, "correct": correct}
            append_line(self.run_dir / "cloud_answers.jsonl", record, sync=False, private=True)
            self.cloud_correct[problem.id], self.cloud_asked[problem.id] = correct, step
        # Counted from the record, so that a step run again after a kill counts the same.
        return len({problem.id for problem in problems if self.cloud_asked[problem.id] == step})

    def evaluate(self) -> dict[str, float]:
        """Greedy decoding of held-out problems: alone (marker forbidden) and at the natural threshold."""
        if not self.held_out:
            return {}
        prompts = [self.policy.encode(problem.prompt) for problem in self.held_out]
        natural = decode_batch(self.policy, prompts, marker_bias=0.0)
        alone = decode_batch(self.policy, prompts, marker_bias=float("-inf"))
        kept = [(p, d) for p, d in zip(self.held_out, natural, strict=True) if not emitted_call(d)]
        spent = [len(d.token_ids) for d in natural if emitted_call(d)]
        solved = sum(self.task.grade(p, d.answer) for p, d in zip(self.held_out, alone, strict=True))
        measured = {
            "eval_local_accuracy": solved / len(prompts),
            "eval_kept_accuracy": sum(self.task.grade(p, d.answer) for p, d in kept) / max(1, len(kept)),
            "eval_call_fraction": 1 - len(kept) / len(prompts),
        }
        return measured | ({"eval_tokens_before_call": sum(spent) / len(spent)} if spent else {})

    def learning_rate(self, step: int) -> float:
        """The step's learning rate: linear warm-up, then the configured schedule."""
        left = 1.0 if self.config.schedule == "constant" else 1 - (step - 1) / self.config.steps
        return self.config.learning_rate * left * min(1.0, step / (self.config.warmup_steps + 1))

    def seed(self, purpose: int, step: int) -> int:
        """A seed from (run seed, purpose, step)."""
        sequence = np.random.SeedSequence([self.config.seed, purpose, step])
        return int(sequence.generate_state(1, np.uint32)[0])
