"""Counts are what was counted: a task with fewer problems than asked for, calibrated and evaluated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgekit.cli.app import run_command
from edgekit.routing.spec import load_routing
from edgekit.tasks import get_task


@pytest.fixture
def run_and_task(tiny_policy_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    run = tmp_path / "run"
    shutil.copytree(tiny_policy_folder, run / "policy")
    task = tmp_path / "few.jsonl"
    task.write_text("".join(json.dumps({"prompt": f"{n} {n + 3} -> {n}", "answer": "7"}) + "\n" for n in range(150)))
    return run, task


def test_calibrate_and_eval_tell_how_many_problems_there_were(run_and_task, capsys) -> None:
    run, task = run_and_task
    validation, test = (len(get_task(str(task)).problems(split, 10**6, 0)) for split in ("validation", "test"))
    assert 0 < validation < 150
    command = ["calibrate", str(run), "--call-fraction", "0.5", "--task", str(task)]
    assert run_command([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n"] == validation
    assert told["interval"][0] < told["reached_fraction"] < told["interval"][1]
    facts = load_routing(run / "policy" / "routing.json").calibration
    assert facts.task.startswith("few.jsonl")  # and nothing of this machine
    assert (facts.split, facts.n, facts.seed) == ("validation", validation, 0)
    assert facts.interval == pytest.approx(told["interval"])
    assert run_command(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"of {validation} validation problems call" in said
    assert "all that the task has of the 500 asked for" in said

    evaluate = ["eval", str(run), "--task", str(task), "--cloud", "none"]
    assert run_command([*evaluate, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n"] == test
    assert report["calibration"]["facts"]["n"] == validation
    assert report["calibration"]["difference"] == pytest.approx(report["call_fraction"] - facts.reached_fraction)
    assert (report["rescued"], report["harmed"]) == (0, 0)
    called = report["call_fraction"]  # an oracle is right about all of these, and the policy about none
    asked = [*evaluate[:-1], "oracle", "--json", "--min-accuracy"]
    assert run_command([*asked, f"{called - 0.01}"]) == 0
    capsys.readouterr()
    assert run_command([*asked, f"{called + 0.01}"]) == 1
    below = capsys.readouterr()
    assert json.loads(below.out)["overall_accuracy"] == pytest.approx(called)  # told all the same
    assert below.err.startswith(f"error: overall accuracy too low: {called:.4g}. On {test} problems ")
    assert run_command([*asked, "nan"]) == 2
    assert run_command(evaluate) == 0
    assert f"{test} held-out problems (all that the task has of the 1000 asked" in " ".join(
        capsys.readouterr().out.split()
    )
