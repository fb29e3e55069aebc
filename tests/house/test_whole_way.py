"""The whole way once in the quick suite, as small as it can be: train, export, verify, evaluate, in floats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli.app import run_command

TINY = ("steps=1", "prompts_per_step=4", "group_size=2", "eval_n=0", "learning_rate=1e-5")


def test_a_trained_policy_decides_alike_as_a_bundle_and_a_wrong_cloud_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: object) -> dict:
        capsys.readouterr()
        assert run_command([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    run, bundle = tmp_path / "run", tmp_path / "bundle"
    assert run_command(["train", "quick", *(f"--set={text}" for text in TINY), "--out", str(run)]) == 0
    export = ["export", str(run), "--target", "onnx", "--recipe", "onnx_fp32", "--out", str(bundle), "--cases", "4"]
    assert run_command(export) == 0
    report = said("verify", bundle, "--reference", run, "--n", 16)
    assert (report["outcome"], report["decision_agreement"], report["answer_agreement"]) == ("MATCH", 1.0, 1.0)
    before, after = (said("eval", source, "--n", 16, "--cloud", "oracle:0.0") for source in (run, bundle))
    for key in ("call_fraction", "local_accuracy", "overall_accuracy", "mean_generated_tokens"):
        assert before[key] == after[key]
    assert after["overall_accuracy"] == pytest.approx(after["kept_accuracy"] * (1 - after["call_fraction"]))
