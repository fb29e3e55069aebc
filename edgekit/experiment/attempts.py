"""What a policy does alone on some problems: what routers are fitted to and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.evaluate.answers import PolicyDecider
from edgekit.policy.checkpoint import Policy
from edgekit.progress import Progress
from edgekit.routing.decision_rule import SOLO
from edgekit.routing.decoder import Decision
from edgekit.tasks.base import Problem, Task


@dataclass(frozen=True)
class Attempts:
    """One greedy decision a problem, the marker forbidden, and whether its answer is right."""

    problems: list[Problem]
    decisions: list[Decision]
    correct: list[bool]

    def __len__(self) -> int:
        return len(self.problems)

    def select(self, rows: Sequence[int]) -> Attempts:
        """The attempts at the given positions, in that order."""
        return Attempts(
            [self.problems[row] for row in rows],
            [self.decisions[row] for row in rows],
            [self.correct[row] for row in rows],
        )


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
