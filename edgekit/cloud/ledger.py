"""The ledger of a run or an experiment: what its cloud was asked, what it said, whether that was right, and when.

It is the record that going on is held to, in the run's own folder; :mod:`edgekit.cloud.answers` beneath it sees that
nothing is paid for twice, by this run or another.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.atomic_write import owner_only
from edgekit.cloud.client import Cloud, answer_all
from edgekit.errors import EdgekitError
from edgekit.plain_file import RECORD_BYTES, read_bytes
from edgekit.tasks.base import Problem, Task


class CloudLedger:
    """``cloud`` with its answers to problems of ``task`` kept in a file of JSON lines: each is asked for once.

    The file, its owner's alone, outlives the process, so going on asks nothing twice and counts nothing twice. Several
    processes may append to it; a line torn by a kill is skipped, and that problem asked again.
    """

    def __init__(self, cloud: Cloud, task: Task, file: Path) -> None:
        self.name = cloud.name
        self._cloud, self._task, self._file = cloud, task, file
        self._answers: dict[str, str] = {}
        self._right: dict[str, bool] = {}
        self._asked: Counter[int | None] = Counter()
        for line in _lines(file):
            try:
                self._enter(*_read(json.loads(line)))
            except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
                continue

    def answer(self, problem: Problem, *, step: int | None = None) -> str:
        """The answer given the first time, in ``step``. Raises EdgekitError if the cloud cannot be had."""
        if problem.id not in self._answers:
            self._note(problem, self._cloud.answer(problem), step)
        return self._answers[problem.id]

    def fetch(self, problems: Sequence[Problem], *, step: int | None = None) -> None:
        """Ask for those of ``problems`` that were not asked yet, as many at a time as the cloud takes."""
        wanted = list({problem.id: problem for problem in problems if problem.id not in self._answers}.values())
        for problem, answer in zip(wanted, answer_all(self._cloud, wanted), strict=True):
            self._note(problem, answer, step)

    def is_right(self, problem: Problem, *, step: int | None = None) -> bool:
        """Whether the cloud answers ``problem`` rightly; asks it if it was not asked yet, as :meth:`answer` does."""
        answer = self.answer(problem, step=step)
        if problem.id not in self._right:  # written down by a version that did not grade
            self._right[problem.id] = self._task.grade(problem, answer)
        return self._right[problem.id]

    def is_known_right(self, problem: Problem) -> bool:
        """:meth:`is_right` of a problem that was asked; False for others, which are not asked now."""
        return problem.id in self._answers and self.is_right(problem)

    def are_right(self, problems: Sequence[Problem]) -> list[bool]:
        """:meth:`is_right` of each; those that were not asked yet are, as many at a time as the cloud takes."""
        self.fetch(problems)
        return [self.is_right(problem) for problem in problems]

    def asked_in(self, step: int) -> int:
        """How many problems were first asked in ``step``, whoever ran it."""
        return self._asked[step]

    def _note(self, problem: Problem, answer: str, step: int | None) -> None:
        right = self._task.grade(problem, answer)
        when = {} if step is None else {"step": step}
        self._append({**when, "id": problem.id, "answer": answer, "correct": right})
        self._enter(problem.id, answer, right, step)

    def _enter(self, key: str, answer: str, right: bool | None, step: int | None) -> None:
        if key in self._answers:
            return
        self._answers[key] = answer
        if right is not None:
            self._right[key] = right
        self._asked[step] += 1

    def _append(self, record: dict[str, Any]) -> None:
        with open(self._file, "a+b", opener=owner_only) as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - 1))
            torn = file.read(1) not in (b"", b"\n")
            file.write((b"\n" if torn else b"") + json.dumps(record).encode() + b"\n")


def _lines(file: Path) -> list[bytes]:
    try:
        return read_bytes(file, RECORD_BYTES).splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise EdgekitError(f"cannot read the cloud's answers: {file}. {error}. Move it away.") from None


def _read(record: dict[str, Any]) -> tuple[str, str, bool | None, int | None]:
    """Problem, answer, whether it is right, and the step. Raises KeyError or TypeError for what is none."""
    key, answer, right, step = record["id"], record["answer"], record.get("correct"), record.get("step")
    if not (isinstance(key, str) and isinstance(answer, str) and isinstance(right, bool | None)):
        raise TypeError
    return key, answer, right, step if isinstance(step, int) else None
