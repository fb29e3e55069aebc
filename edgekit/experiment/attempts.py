"""What a policy does alone on some problems: what routers are fitted to and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgekit.evaluate.answers import PolicyDecider
from edgekit.policy.checkpoint import Policy
from edgekit.progress import Progress
from edgekit.rollout.sampler import sample_groups
from edgekit.routing.decision_rule import SOLO
from edgekit.routing.decoder import Decision
from edgekit.tasks.base import Problem, Task


@dataclass(frozen=True)
class Attempts:
    """One greedy decision a problem, the marker forbidden, and whether its answer is right.

    ``samples``: further responses to each problem, drawn from the policy; empty where nothing needs them.
    """

    problems: list[Problem]
    decisions: list[Decision]
    correct: list[bool]
    samples: list[tuple[Decision, ...]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.problems)

    def select(self, rows: Sequence[int]) -> Attempts:
        """The attempts at the given positions, in that order."""
        return Attempts(
            [self.problems[row] for row in rows],
            [self.decisions[row] for row in rows],
            [self.correct[row] for row in rows],
            [self.samples[row] for row in rows] if self.samples else [],
        )

    @property
    def device_tokens(self) -> list[int]:
        """The tokens that the device wrote for each problem, samples included."""
        alone = [len(decision.token_ids) for decision in self.decisions]
        if not self.samples:
            return alone
        drawn = (sum(len(decision.token_ids) for decision in each) for each in self.samples)
        return [one + more for one, more in zip(alone, drawn, strict=True)]


def attempt(
    policy: Policy,
    task: Task,
    problems: Sequence[Problem],
    *,
    batch_size: int = 128,
    on_progress: Progress | None = None,
) -> Attempts:
    """Let ``policy`` answer ``problems`` alone. An attempt that ends without an answer is wrong."""
    prompts = [problem.prompt for problem in problems]
    decisions = PolicyDecider(policy, batch_size=batch_size).decide(prompts, SOLO, on_progress)
    correct = [task.grade(problem, decision.answer) for problem, decision in zip(problems, decisions, strict=True)]
    return Attempts(list(problems), decisions, correct)


def with_samples(
    policy: Policy,
    attempts: Attempts,
    count: int,
    *,
    seed: int,
    batch_size: int = 64,
    on_progress: Progress | None = None,
) -> Attempts:
    """``attempts`` with ``count`` responses to each problem, drawn at temperature 1 by random streams of ``seed``."""
    prompts = [policy.encode(problem.prompt) for problem in attempts.problems]
    samples: list[tuple[Decision, ...]] = []
    for begin in range(0, len(prompts), batch_size):
        batch = prompts[begin : begin + batch_size]
        samples += [group.responses for group in sample_groups(
            policy, batch, count, temperature=1.0, seed=seed, first=begin
        )]  # fmt: skip
        if on_progress is not None:
            on_progress(len(samples), len(prompts))
    return replace(attempts, samples=samples)
