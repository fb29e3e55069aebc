"""A cloud that is asked once per problem in the whole experiment: every method meets the very same answers."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.atomic_write import owner_only
from edgekit.cloud.client import Cloud
from edgekit.tasks.base import Problem, Task


class RememberedCloud:
    """``cloud`` with its answers kept in a file of JSON lines, so that going on asks nothing twice.

    Several processes may append to the file; a line torn by a kill is skipped and that problem asked again.
    """

    def __init__(self, cloud: Cloud, file: Path) -> None:
        self.name = cloud.name
        self._cloud = cloud
        self._file = file
        self._answers: dict[str, str] = {}
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            try:
                record = json.loads(line)
                self._answers.setdefault(record["id"], record["answer"])
            except (ValueError, KeyError, TypeError):
                continue

    def answer(self, problem: Problem) -> str:
        """The answer given the first time. Raises EdgekitError if the cloud cannot be had."""
        if problem.id not in self._answers:
            answer = self._cloud.answer(problem)
            # A line of its own even after a torn one; blank lines are skipped when read.
            with open(self._file, "a", encoding="utf-8", opener=owner_only) as file:
                file.write("\n" + json.dumps({"id": problem.id, "answer": answer}) + "\n")
            self._answers[problem.id] = answer
        return self._answers[problem.id]

    def grade(self, task: Task, problems: list[Problem]) -> list[bool]:
        """Whether the cloud answers each problem rightly."""
        return [task.grade(problem, self.answer(problem)) for problem in problems]
