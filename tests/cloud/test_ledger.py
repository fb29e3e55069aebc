"""The ledger: every problem is asked once, whoever asks and however often the process dies."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.cloud.ledger import CloudLedger
from edgekit.cloud.oracle import OracleCloud
from edgekit.tasks import get_task
from edgekit.tasks.base import Problem

TASK = get_task("countdown")
PROBLEMS = TASK.problems("train", 6, 0)


class Counting(OracleCloud):
    """An oracle that notes what it is asked."""

    def __init__(self, accuracy: float = 1.0) -> None:
        super().__init__(TASK, accuracy)
        self.asked: list[str] = []

    def answer(self, problem: Problem) -> str:
        self.asked.append(problem.id)
        return super().answer(problem)


def test_each_problem_is_asked_once_and_counted_in_the_step_that_asked_first(tmp_path: Path) -> None:
    file, cloud = tmp_path / "cloud_answers.jsonl", Counting(accuracy=0.5)
    ledger = CloudLedger(cloud, TASK, file)
    first = [ledger.answer(problem, step=1) for problem in PROBLEMS[:3]]
    assert [ledger.is_known_right(problem) for problem in PROBLEMS[3:]] == [False] * 3
    again = CloudLedger(cloud, TASK, file)
    assert [again.answer(problem, step=2) for problem in PROBLEMS[:4]][:3] == first
    assert cloud.asked == [problem.id for problem in PROBLEMS[:4]]
    assert [again.asked_in(step) for step in (1, 2, 3)] == [3, 1, 0]
    assert again.are_right(PROBLEMS) == [TASK.grade(p, OracleCloud(TASK, 0.5).answer(p)) for p in PROBLEMS]
    assert file.stat().st_mode & 0o077 == 0


def test_a_torn_line_costs_that_answer_alone(tmp_path: Path) -> None:
    file, cloud = tmp_path / "cloud_answers.jsonl", Counting()
    CloudLedger(cloud, TASK, file).answer(PROBLEMS[0])
    with file.open("ab") as torn:
        torn.write(b'{"id": "' + PROBLEMS[1].id.encode() + b'", "ans\xff')
    CloudLedger(cloud, TASK, file).are_right(PROBLEMS[:2])
    last = Counting()
    assert CloudLedger(last, TASK, file).are_right(PROBLEMS[:2]) == [True, True]
    assert last.asked == []
    assert cloud.asked == [PROBLEMS[0].id, PROBLEMS[1].id]


def test_answers_that_an_earlier_version_wrote_down_are_graded_now(tmp_path: Path) -> None:
    file, cloud = tmp_path / "cloud_answers.jsonl", Counting()
    lines = [{"id": PROBLEMS[0].id, "answer": TASK.solve(PROBLEMS[0])}, {"id": PROBLEMS[1].id, "answer": "no"}]
    file.write_text("\n" + "\n\n".join(map(json.dumps, lines)) + "\n")
    assert CloudLedger(cloud, TASK, file).are_right(PROBLEMS[:2]) == [True, False]
    assert cloud.asked == []
