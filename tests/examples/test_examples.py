"""The examples run as they stand, on settings small enough for a test."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

import pytest

import edgekit

FOLDER = Path(__file__).parents[2] / "examples"
SUMS = ["3 5 -> 8", "1 2 -> 3"]
TINY = {"steps": 2, "prompts_per_step": 8, "group_size": 4, "eval_n": 0, "learning_rate": 1e-5}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_an_example_uses_the_front_door_and_what_a_task_is_made_of(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name and name.startswith("edgekit.")} <= {
        "edgekit.tasks",
        "edgekit.tasks.expression",
    }
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "edgekit"
    }
    assert used
    assert used <= set(edgekit.__all__)


def test_the_task_of_one_s_own_is_sound() -> None:
    task = runpy.run_path(str(FOLDER / "your_own_task.py"))["TASK"]
    splits = {split: task.problems(split, 10_000, seed=0) for split in ("train", "validation", "test")}
    ids = [problem.id for problems in splits.values() for problem in problems]
    assert len(ids) == len(set(ids))
    assert min(map(len, splits.values())) >= 8
    problem = task.parse("2 3 4 -> 24")
    assert task.grade(problem, task.solve(problem))
    assert not any(task.grade(problem, answer) for answer in (None, "", "24", "2 * 3 * 4 * 1", "2 * 12", "import os"))
    assert task.parse("2 3 4 -> 25") is task.parse("two") is None


def test_prompts_are_answered_by_a_bundle_and_a_cloud(
    tiny_bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["answer_prompts.py", str(tiny_bundle_folder), *SUMS, "--task", "countdown"])
    runpy.run_path(str(FOLDER / "answer_prompts.py"), run_name="__main__")
    *answers, last = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in answers] == SUMS
    assert last.endswith("of 2 went to the cloud")


@pytest.mark.slow
def test_a_policy_is_trained_on_a_task_of_one_s_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(FOLDER / "your_own_task.py"))["main"](tmp_path / "run", **TINY)
    assert "-> 24: " in capsys.readouterr().out


@pytest.mark.slow
def test_a_policy_is_trained_exported_and_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runpy.run_path(str(FOLDER / "train_export_verify.py"))["main"](tmp_path, n=40, **TINY)
    assert capsys.readouterr().out.startswith("MATCH: 40 problems")
