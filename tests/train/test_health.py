"""Nothing learned is never success: what goes wrong without an error is told, and a run that learned nothing fails."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.app import run_command
from edgekit.policy.checkpoint import load_policy
from edgekit.tasks import get_task
from edgekit.train.health import findings_at_end, findings_now, learned_nothing
from edgekit.train.metrics import StepMetrics
from edgekit.train.readable import check_readable
from edgekit.train.summary import COLUMNS, what_happened
from edgekit.warm_start.bases import builtin_base

GOOD = {"grad_norm": 1.0, "clipped": False, "local_accuracy": 0.4, "call_fraction": 0.3, "answered": 0.6}
TINY = ["steps=3", "prompts_per_step=2", "group_size=2", "train_pool=8", "eval_n=0"]


def steps(n: int, **changed: Any) -> list[dict[str, Any]]:
    return [{"step": step, **GOOD, **changed} for step in range(1, n + 1)]


def kinds(run: list[dict[str, Any]], algorithm: str = "gapg") -> list[str]:
    return [finding.kind for finding in findings_at_end(run, algorithm)]


def test_a_run_that_learns_is_told_nothing() -> None:
    assert kinds(steps(30)) == []
    assert not learned_nothing(steps(3))


@pytest.mark.parametrize(
    ("kind", "length", "changed"),
    [
        ("idle", 3, {"grad_norm": 0.0}),
        ("weak_base", 3, {"local_accuracy": 0.01}),
        ("dead_marker", 10, {"call_fraction": 0.0}),
        ("formless", 3, {"answered": 0.0}),
        ("unmoved", 10, {"moved": 0.0}),
    ],
)
def test_what_goes_wrong_is_told_when_it_has_gone_on_long_enough_and_again_at_the_end(
    kind: str, length: int, changed: dict[str, Any]
) -> None:
    run = steps(length, **changed)
    assert [finding.kind for finding in findings_now(run, "gapg")] == [kind]
    assert findings_now(run[:-1], "gapg") == []
    assert kinds(run) == [kind]
    assert kinds([*run, *steps(30)]) == ([] if kind == "idle" else [kind])  # what passed is not told again


def test_a_grid_that_has_not_moved_at_the_end_is_told_of_however_short_the_run_and_one_that_moves_late_is_not() -> None:
    assert kinds(steps(3, moved=0.0)) == ["unmoved"]
    assert (
        kinds([*steps(12, moved=0.0), {"step": 13, **GOOD, "moved": 1e-6}, {"step": 14, **GOOD, "moved": None}]) == []
    )
    assert kinds(steps(12, moved=0.0, grad_norm=0.0)) == ["idle"]


def test_idle_steps_between_others_are_counted_at_the_end() -> None:
    run = [step for pair in zip(steps(5), steps(5, grad_norm=0.0), strict=True) for step in pair]
    assert findings_at_end(run, "gapg")[0].text.startswith("no prompt taught anything in 5 of 10 steps")


def test_an_algorithm_without_calls_misses_no_marker_and_one_that_always_calls_no_answers() -> None:
    assert kinds(steps(12, call_fraction=0.0), "task_only") == []
    assert kinds(steps(12, answered=0.0, call_fraction=1.0)) == []


def test_every_column_of_the_metrics_is_explained() -> None:
    assert set(COLUMNS) == {field.name for field in fields(StepMetrics)}


def test_what_happened_is_said_in_a_sentence() -> None:
    run = [*steps(1, local_accuracy=0.2, call_fraction=0.1), *steps(8), *steps(1, local_accuracy=0.7)]
    run[-1] |= {"eval_local_accuracy": 0.66, "eval_call_fraction": 0.25}
    told = what_happened(run)
    assert "went from 20% to 70%, calls went from 10% to 30%" in told
    assert "solves 66% of held-out problems alone and hands off 25%" in told
    assert what_happened(steps(4, grad_norm=0.0)).startswith("Nothing was learned: in none of 4 steps")


def settings(*given: str) -> list[str]:
    return [part for each in (*TINY, *given) for part in ("--set", each)]


def test_a_run_that_learned_nothing_ends_with_exit_code_1_and_says_what_to_try(tmp_path: Path, capsys) -> None:
    task = tmp_path / "impossible.jsonl"
    rows = [{"prompt": f"{a} {b} -> 9", "answer": "- 1 -"} for a in range(1, 9) for b in range(1, 9)]
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["train", "quick", "--out", str(tmp_path / "run"), "--json"]
    assert run_command([*command, *settings(f"task={task}", "algorithm=task_only")]) == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["learned"] is False
    assert {"idle", "weak_base"} <= {warning["kind"] for warning in told["warnings"]}
    assert "warning: step 3: nothing was learned in the last 3 steps" in captured.err
    assert "error: nothing was learned" in captured.err
    page = (tmp_path / "run" / "report" / "index.md").read_text()
    assert "Nothing was learned: in none of 3 steps" in page
    assert "| grad_norm | 0 | length of the gradient" in page


def test_train_prints_one_json_object_and_succeeds_where_something_was_learned(tmp_path: Path, capsys) -> None:
    assert run_command(["train", "quick", "--out", str(tmp_path / "run"), "--json", *settings("group_size=8")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["learned"] is True
    assert told["last_step"]["step"] == 3
    assert Path(told["policy"]).is_dir()


def words(folder: Path) -> Path:
    path = folder / "problems.jsonl"
    rows = [{"prompt": f"How many legs do {n} cows have?", "answer": str(4 * n)} for n in range(1, 90)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_task_in_words_is_refused_on_the_built_in_base_before_anything_is_written(tmp_path: Path, capsys) -> None:
    command = ["train", "--out", str(tmp_path / "run"), "--set", f"task={words(tmp_path)}#number"]
    assert run_command(command) == 2
    told = capsys.readouterr().err
    assert "task not readable: problems" in told
    assert "--set base=FOLDER" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["countdown-easy", "countdown-hard", "countdown-reasoning"])
def test_tasks_of_numbers_are_readable_to_the_built_in_base(name: str) -> None:
    task = get_task(name)
    check_readable(load_policy(builtin_base()), task, task.problems("train", 50, 0))


def test_a_cloud_that_refuses_the_key_is_met_before_a_warm_start(tmp_path: Path, server, capsys) -> None:
    server.modes = ["status:401"]
    command = ["train", "quick", "--out", str(tmp_path / "run"), *settings(f"cloud=openai:m@{server.url}")]
    assert run_command(command) == 2
    assert "takes no such key" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_disk_without_room_is_told_before_the_run_begins(tmp_path: Path, monkeypatch, capsys) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    assert run_command(["train", "quick", "--out", str(tmp_path / "a" / "run"), *settings()]) == 2
    assert "no room" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
