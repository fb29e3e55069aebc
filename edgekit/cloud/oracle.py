"""A cloud that knows the task: its exact solver, wrong on a fixed share of prompts."""

from __future__ import annotations

import hashlib

from edgekit.tasks.base import Problem, Task


class OracleCloud:
    """Answers with ``task.solve``; ``accuracy`` below 1 makes it wrong on a share of problems.

    Which ones depends on the problem's id and ``seed`` alone, so every run sees the same cloud.
    """

    def __init__(self, task: Task, accuracy: float = 1.0, seed: int = 0) -> None:
        self.task = task
        self.accuracy = accuracy
        self.seed = seed
        self.name = "oracle" if accuracy == 1.0 else f"oracle:{accuracy:g}"

    def answer(self, problem: Problem) -> str:
        """The solver's answer, or a text no task accepts where this cloud is wrong."""
        digest = hashlib.sha256(f"{self.seed}:{problem.id}".encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        return self.task.solve(problem) if share < self.accuracy else "I do not know"
