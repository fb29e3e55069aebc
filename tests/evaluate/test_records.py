"""What became of each problem, written down: the report counted again from its lines."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from rehash import hash_again

from edgekit.cli.app import run_command
from edgekit.evaluate.records import write_records
from edgekit.warm_start.bases import builtin_base

BASE = str(builtin_base())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_evaluation_s_numbers_are_those_of_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "new" / "eval.jsonl"
    command = ["eval", BASE, "--n", "60", "--cloud", "oracle:0.8", "--results", str(results), "--json"]
    assert run_command(command) == 0
    report, rows = json.loads(capsys.readouterr().out), lines(results)
    called = [row for row in rows if row["called"]]
    kept = [row for row in rows if not row["called"]]
    assert len({row["id"] for row in rows}) == report["n"] == 60
    assert report["call_fraction"] == pytest.approx(len(called) / 60)
    assert report["overall_accuracy"] == pytest.approx(mean(row["right"] for row in rows))
    assert report["local_accuracy"] == pytest.approx(mean(row["right_alone"] for row in rows))
    assert report["kept_accuracy"] == pytest.approx(mean(row["right"] for row in kept))
    assert report["cloud_accuracy"] == pytest.approx(mean(row["cloud_right"] for row in called))
    assert report["rescued"] == sum(row["right"] and not row["right_alone"] for row in called)
    assert report["mean_generated_tokens"] == pytest.approx(mean(row["tokens"] for row in rows))
    assert {row["margin"] > 0 for row in called if row["reason"] == "marker"} == {True}


@pytest.mark.parametrize("with_reference", [True, False])
def test_a_verification_s_numbers_are_those_of_its_lines(
    with_reference: bool, tiny_bundle_folder: Path, tiny_policy_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    results = tmp_path / "verify.jsonl"
    held = ["--reference", str(tiny_policy_folder), "--n", "12", "--task", "countdown"] if with_reference else []
    run_command(["verify", str(tiny_bundle_folder), *held, "--results", str(results), "--json"])
    report, rows = json.loads(capsys.readouterr().out), lines(results)
    sides = ("reference", "quantized", "artifact")
    assert len(rows) == report["n"] > 0
    assert all(row["id"] and row["prompt"] and row["reference"]["reason"] for row in rows)
    reference, quantized, artifact = ([row[side]["called"] for row in rows] for side in sides)
    assert report["call_fraction_reference"] == pytest.approx(mean(reference))
    assert report["call_fraction_artifact"] == pytest.approx(mean(artifact))
    same = mean(a == b for a, b in zip(quantized, artifact, strict=True))
    assert report["lowering"]["decision_agreement"] == pytest.approx(same)
    for side in ("reference", "artifact"):
        right = [row[side]["right"] for row in rows]
        assert (report[f"overall_accuracy_{side}"] is None) == (right[0] is None) == (not with_reference)
        if with_reference:
            assert report[f"overall_accuracy_{side}"] == pytest.approx(mean(right))


def test_a_folder_in_the_place_of_the_lines_is_refused_before_the_work(tmp_path: Path) -> None:
    assert run_command(["eval", BASE, "--n", "1000", "--results", str(tmp_path)]) == 2
    assert run_command(["eval", BASE, "--n", "1000", "--plot", str(tmp_path)]) == 2


def test_what_cannot_be_written_is_refused_before_the_work(
    tiny_bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def worked(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("edgekit.workflows.evaluate.measure", worked)
    monkeypatch.setattr("edgekit.workflows.verify.verify_bundle", worked)
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    bundle = str(tiny_bundle_folder)
    for command in (["eval", BASE, "--plot"], ["eval", BASE, "--results"], ["verify", bundle, "--results"]):
        for place, told in (("file/lines", "Not a directory"), ("pipe", "It is a pipe or a device")):
            assert run_command([*command, str(tmp_path / place)]) == 2
            assert told in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


def test_a_mismatch_before_anything_runs_leaves_no_lines_of_another_verification(
    tiny_bundle_folder: Path, tmp_path: Path
) -> None:
    damaged, results = Path(shutil.copytree(tiny_bundle_folder, tmp_path / "bundle")), tmp_path / "verify.jsonl"
    results.write_text("{}\n")
    (damaged / "routing.json").write_text("[]")
    hash_again(damaged)
    assert run_command(["verify", str(damaged), "--results", str(results)]) == 1
    assert lines(results) == []


def test_a_text_with_what_some_programs_take_for_a_line_s_end_stays_a_line(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\x85c\ud800\né"}, {"text": "d"}]
    write_records(tmp_path / "lines", rows)
    assert lines(tmp_path / "lines") == rows
