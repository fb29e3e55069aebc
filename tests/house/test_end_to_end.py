"""The whole way on the built-in policy, through the command line: train, export, verify, evaluate, run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from edgekit.cli.app import run_command
from edgekit.recipes.targets import TARGETS

CLOUDS = ("oracle:1.0", "oracle:0.0")
"""One that is always right and one that never is: what a hand-off is worth must show in between."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few small steps: large ones on so few prompts would kill the marker."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    settings = [f"--set={text}" for text in ("steps=3", "prompts_per_step=8", "eval_n=0", "learning_rate=1e-5")]
    assert run_command(["train", "quick", *settings, "--out", str(folder)]) == 0
    return folder


def json_of(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> dict:
    capsys.readouterr()
    assert run_command([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_trained_policy_exports_verifies_and_answers(
    target: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / target
    assert run_command(["export", str(run), "--target", target, "--out", str(bundle), "--cases", "8"]) == 0
    report = json_of(["verify", str(bundle), "--reference", str(run), "--n", "40", "--min-agreement", "0.5"], capsys)
    assert report["outcome"] == "MATCH"
    assert report["replay"]["choice_agreement"] >= 0.99
    assert json_of(["verify", str(bundle), "--min-agreement", "0.5"], capsys)["n"] == 8
    speed = json_of(["bench", str(bundle), "--repeats", "1"], capsys)
    assert speed["decode_tokens_per_s"] > 0
    assert json_of(["inspect", str(bundle)], capsys)["integrity"] == "ok"
    perfect, useless = (json_of(["eval", str(bundle), "--n", "40", "--cloud", cloud], capsys) for cloud in CLOUDS)
    kept = perfect["kept_accuracy"] * (1 - perfect["call_fraction"])
    assert 0 < perfect["call_fraction"] < 1
    assert perfect["overall_accuracy"] == pytest.approx(kept + perfect["call_fraction"])
    assert useless["overall_accuracy"] == pytest.approx(kept)
    assert (useless["call_fraction"], useless["local_accuracy"]) == (
        perfect["call_fraction"],
        perfect["local_accuracy"],
    )
    assert useless["harmed"] > 0 or perfect["rescued"] == round(40 * perfect["call_fraction"])


def test_an_agreement_that_is_asked_for_and_missed_exits_1(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "onnx"
    assert run_command(["export", str(run), "--target", "onnx", "--out", str(bundle), "--cases", "4"]) == 0
    arguments = ["verify", str(bundle), "--reference", str(run), "--n", "100", "--min-agreement", "1.0"]
    report = json_of(arguments, capsys, code=1)
    assert report["outcome"] == "MISMATCH"
    assert any("agreement" in fault for fault in report["faults"])


def test_calibration_moves_the_call_fraction_and_is_stored_in_the_run(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json_of(["eval", str(run), "--n", "300"], capsys)["call_fraction"]
    fitted = json_of(["calibrate", str(run), "--call-fraction", "0.1", "--n", "300"], capsys)
    after = json_of(["eval", str(run), "--n", "300"], capsys)["call_fraction"]
    assert abs(fitted["reached_fraction"] - 0.1) < 0.01
    assert abs(after - 0.1) < 0.06 < before


def test_the_policy_folder_is_an_ordinary_llama_checkpoint(run: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(run / "policy")
    assert model.config.model_type == "llama"
