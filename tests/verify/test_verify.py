"""Verification: hops worked by hand, and damaged bundles that must fail in the right hop."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from rich.console import Console

from edgekit.bundle.load import open_bundle
from edgekit.bundle.manifest import MANIFEST, describe_files
from edgekit.cli.app import run_command
from edgekit.errors import BundleError, EdgekitError
from edgekit.evaluate.answers import PolicyDecider
from edgekit.evaluate.calibrate import calibrate, calibration_facts, store_calibration
from edgekit.export.pipeline import export
from edgekit.export.plan import fit_to_model
from edgekit.policy.checkpoint import Policy, load_policy, save_policy
from edgekit.policy.grid import Grid
from edgekit.policy.reference import ReferenceModel
from edgekit.quantize.grid import GridWeights
from edgekit.recipes.lookup import find_recipe
from edgekit.recipes.targets import TARGETS, Needs
from edgekit.routing.decoder import Decision
from edgekit.simulate import get_simulator
from edgekit.tasks.base import Problem
from edgekit.verify.check import verify_bundle
from edgekit.verify.judge import Thresholds
from edgekit.verify.parity import compare, same_before_decision
from edgekit.verify.render import render
from edgekit.verify.report import VerifyReport
from edgekit.workflows.verify import verify


def kept(*ids: int, answer: str = "x", margin: float = -4.0) -> Decision:
    return Decision("local", "answer", "", answer, ids, margin)


def called(*ids: int, margin: float = 4.0) -> Decision:
    return Decision("cloud", "marker", "", None, (*ids, 99), margin)


def test_a_hop_of_six_prompts_by_hand() -> None:
    before = [kept(1, 2), kept(1, 2), kept(1, 2, margin=-0.3), called(1), called(5), kept(3, 4)]
    after = [kept(1, 2), called(1), called(1), kept(2, 2), called(5), kept(3, 5, answer="y")]
    hop = compare(before, after)
    assert hop.decision_agreement == pytest.approx(3 / 6)
    assert (hop.kept_to_called, hop.called_to_kept) == (2, 1)
    assert (hop.near_margin_flips, hop.diverged_flips, hop.broken) == (1, 1, 1)
    assert hop.decision_agreement_same_answer == pytest.approx(2 / 4)
    assert hop.answer_agreement == pytest.approx(1 / 2)
    assert hop.token_agreement == pytest.approx((1 + 0.5 + 0.5 + 0 + 1 + 0.5) / 6)
    assert (hop.call_fraction_before, hop.call_fraction_after) == (pytest.approx(2 / 6), pytest.approx(3 / 6))


def test_same_before_the_decision_means_up_to_the_marker() -> None:
    assert same_before_decision(kept(1, 2, 3), called(1, 2))
    assert not same_before_decision(kept(1, 2, 3), called(2))
    assert not same_before_decision(kept(1, 2), kept(1, 2, 3))
    assert not same_before_decision(called(1), called(1, 2))
    assert same_before_decision(called(1), called(1))


@pytest.fixture(scope="module")
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder)


@pytest.fixture
def damaged(tiny_bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle_folder, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def problems(tiny_prompts: list[str]) -> list[Problem]:
    return [Problem(str(number), prompt, "tiny") for number, prompt in enumerate(tiny_prompts)]


def hash_again(folder: Path) -> None:
    data = json.loads((folder / MANIFEST).read_text())
    data["files"] = {name: entry.model_dump() for name, entry in describe_files(folder).items()}
    (folder / MANIFEST).write_text(json.dumps(data))


def assert_lowering_fails(report: VerifyReport) -> None:
    assert (report.passed, report.outcome) == (False, "MISMATCH")
    assert report.faults
    assert all(fault.startswith("lowering:") for fault in report.faults), report.faults
    assert report.quantization is not None
    assert report.quantization.decision_agreement == 1.0


def test_a_sound_bundle_matches_with_its_run_and_by_itself(tiny_bundle_folder, policy, problems) -> None:
    bundle = open_bundle(tiny_bundle_folder)
    for reference in (policy, None):
        report = verify_bundle(bundle, reference, problems, None, None)
        assert report.faults == []
        assert (report.passed, report.outcome, report.n) == (True, "MATCH", len(problems))
        assert report.overall == report.lowering
        assert report.overall.decision_agreement == 1.0
        assert report.to_json()["call_fraction_artifact"] == pytest.approx(0.4)
        assert "onnxruntime" in report.runtime
        if reference is not None:
            assert report.max_abs_logit_diff < 1e-3
        Console(width=100).print(render(report))


def test_swapped_weights_fail_the_lowering_hop(damaged, policy, problems) -> None:
    model = onnx.load(damaged / "model.onnx")
    weights = [w for w in model.graph.initializer if list(w.dims) in ([32, 64], [64, 32])]
    first, second = next((a, b) for a in weights for b in weights if a.dims == b.dims and a.raw_data != b.raw_data)
    a, b = numpy_helper.to_array(first).copy(), numpy_helper.to_array(second).copy()
    first.CopyFrom(numpy_helper.from_array(b, first.name))
    second.CopyFrom(numpy_helper.from_array(a, second.name))
    onnx.save(model, damaged / "model.onnx")
    hash_again(damaged)
    assert_lowering_fails(verify_bundle(open_bundle(damaged), policy, problems, None, None))
    assert_lowering_fails(verify_bundle(open_bundle(damaged), None, [], None, None))


def test_logits_larger_as_a_whole_fail_the_lowering_hop(damaged, policy, problems) -> None:
    model = onnx.load(damaged / "model.onnx")
    norm = next(weight for weight in model.graph.initializer if weight.name == "model.norm.weight")
    norm.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(norm) * np.float32(1.1), norm.name))
    onnx.save(model, damaged / "model.onnx")
    hash_again(damaged)
    for reference in (policy, None):
        report = verify_bundle(open_bundle(damaged), reference, problems, None, None)
        assert_lowering_fails(report)
        assert report.faults[-1] == "lowering: the marker's margins are 1.1 times the reference's"


def test_a_wrong_marker_id_fails_the_lowering_hop(damaged, policy, problems) -> None:
    data = json.loads((damaged / "routing.json").read_text())
    data["marker"]["token_ids"] = [[data["marker"]["token_ids"][0][0] - 5]]
    (damaged / "routing.json").write_text(json.dumps(data))
    hash_again(damaged)
    report = verify_bundle(open_bundle(damaged), policy, problems, None, None)
    assert_lowering_fails(report)
    assert any("marker ids" in fault and "reference" in fault for fault in report.faults)
    alone = verify_bundle(open_bundle(damaged), None, [], None, None)
    assert_lowering_fails(alone)
    assert any("spell" in fault for fault in alone.faults)


def test_a_marker_id_outside_the_vocabulary_is_refused_when_the_bundle_is_opened(damaged) -> None:
    data = json.loads((damaged / "routing.json").read_text())
    data["marker"]["token_ids"] = [[10**6]]
    (damaged / "routing.json").write_text(json.dumps(data))
    hash_again(damaged)
    with pytest.raises(BundleError, match=r"bad token ids: .*1000000"):
        open_bundle(damaged)


def test_a_cache_off_by_one_fails_the_lowering_hop(tiny_bundle_folder, policy, problems) -> None:
    bundle = open_bundle(tiny_bundle_folder)
    model = get_simulator("onnx").open_artifact(bundle.artifact, 64, 16)
    prefill = model.prefill

    def prefill_then_skip(token_ids):
        logits = prefill(token_ids)
        model._position += 1
        return logits

    model.prefill = prefill_then_skip
    assert_lowering_fails(verify_bundle(bundle, policy, problems, None, None, model=model))
    assert_lowering_fails(verify_bundle(bundle, None, [], None, None, model=model))


def test_a_missing_runtime_is_not_run_and_never_a_pass(tiny_bundle_folder, policy, problems, monkeypatch) -> None:
    monkeypatch.setitem(TARGETS, "onnx", replace(TARGETS["onnx"], needs=Needs("absent", "absent", "onnx")))
    report = verify_bundle(open_bundle(tiny_bundle_folder), policy, problems, None, None)
    assert (report.passed, report.outcome, report.n) == (False, "NOT_RUN", 0)
    assert "absent is not installed" in report.faults[0]
    assert report.to_json()["lowering"]["decision_agreement"] is None
    Console(width=100).print(render(report))


def test_a_policy_that_routes_otherwise_fails_and_agreement_is_judged_only_if_asked(
    tiny_bundle_folder, policy, problems
) -> None:
    bundle = open_bundle(tiny_bundle_folder)
    moved = replace(policy, routing=policy.routing.model_copy(update={"marker_bias": policy.routing.marker_bias + 3}))
    report = verify_bundle(bundle, moved, problems, None, None)
    assert not report.passed
    assert [fault.split(":")[0] for fault in report.faults] == ["quantization"]
    assert "the share of calls moved" in report.faults[0]
    near = replace(policy, routing=policy.routing.model_copy(update={"marker_bias": policy.routing.marker_bias + 0.1}))
    flipped = verify_bundle(bundle, near, problems, None, None)
    assert flipped.passed
    assert flipped.overall.decision_agreement < 1
    assert any("40 prompts do not show" in note for note in flipped.notes)
    asked = verify_bundle(bundle, near, problems, None, None, limits=Thresholds(min_agreement=1.0))
    assert [fault.split(":")[0] for fault in asked.faults] == ["quantization"]


def test_logits_that_are_no_numbers_are_a_mismatch_with_its_run_and_by_itself(
    tiny_bundle_folder, policy, problems
) -> None:
    for reference in (policy, None):
        model = get_simulator("onnx").open_artifact(tiny_bundle_folder / "model.onnx", 64, 16)
        decode = model.decode
        model.decode = lambda token_id, decode=decode: np.where(np.arange(672) == 7, np.nan, decode(token_id))
        report = verify_bundle(open_bundle(tiny_bundle_folder), reference, problems, None, None, model=model)
        assert (report.passed, report.outcome) == (False, "MISMATCH")
        assert "not all numbers" in report.faults[0]


def test_a_weight_that_is_no_number_is_a_mismatch(damaged, policy, problems) -> None:
    model = onnx.load(damaged / "model.onnx")
    weight = next(w for w in model.graph.initializer if list(w.dims) in ([32, 64], [64, 32]))
    values = numpy_helper.to_array(weight).copy()
    values[3, 5] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, damaged / "model.onnx")
    hash_again(damaged)
    for reference in (policy, None):
        report = verify_bundle(open_bundle(damaged), reference, problems, None, None)
        assert (report.passed, report.outcome) == (False, "MISMATCH")
        assert any("not all numbers" in fault for fault in report.faults)


def test_calibrating_is_a_hop_of_its_own_and_blames_nobody(damaged, policy, problems) -> None:
    before = verify_bundle(open_bundle(damaged), policy, problems, None, None)
    fitted = calibrate(PolicyDecider(policy), [problem.prompt for problem in problems], 0.8)
    store_calibration(damaged, fitted, calibration_facts(fitted, "tiny", "test", 0))
    bundle = open_bundle(damaged)
    for reference in (policy, None):
        report = verify_bundle(bundle, reference, problems, None, None)
        assert report.faults == []
        assert report.passed
        assert report.calibration.hop.kept_to_called == 16
        assert (report.calibration.bias_before, report.calibration.bias_after) == (
            policy.routing.marker_bias, fitted.marker_bias
        )  # fmt: skip
        assert (report.quantization, report.overall) == (before.quantization, before.overall)
        assert report.lowering.decision_agreement == report.replay.decision_agreement == 1.0
        assert report.to_json()["call_fraction_artifact"] == pytest.approx(0.8)
        assert report.call_fraction_change.value == 0
        Console(width=100).print(render(report))


def rewrite(folder: Path, name: str, change) -> None:
    """Change a JSON file (or each line of one) of a bundle, and its hash."""
    lines = (folder / name).read_text().splitlines() if name.endswith("l") else [(folder / name).read_text()]
    data = [json.loads(line) for line in lines]
    for each in data:
        change(each)
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in data))
    hash_again(folder)


def swap_two_tokens(data) -> None:
    vocabulary = data["model"]["vocab"]
    vocabulary["\u01203"], vocabulary["\u01205"] = vocabulary["\u01205"], vocabulary["\u01203"]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("conformance.jsonl", lambda c: c["quantized_reference"].update(text="x"), "spell another text"),
        ("conformance.jsonl", lambda c: c["reference"].update(answer="7"), "spell another text or answer"),
        ("conformance.jsonl", lambda c: c["reference"].update(route="cloud"), "not what is recorded"),
        ("conformance.jsonl", lambda c: c["reference"]["token_ids"].reverse(), "reference's tokens"),
        ("conformance.jsonl", lambda c: c["reference"]["margins"].append([1, 0.5]), "where a marker would count"),
        ("conformance.jsonl", lambda c: c["quantized_reference"]["margins"].pop(0), "where a marker would count"),
        ("conformance.jsonl", lambda c: c["prompt_token_ids"].reverse(), "other prompt ids than recorded"),
        ("conformance.jsonl", lambda c: c["prompt_token_ids"].append(10**6), "outside the vocabulary of"),
        ("conformance.jsonl", lambda c: c["quantized_reference"].update(token_ids=[10**6]), "outside the vocabulary"),
        ("conformance.jsonl", lambda c: c["quantized_reference"].update(token_ids=[5] * 100), "fit in the context"),
        ("conformance.jsonl", lambda c: c.update(marker_bias=float(c["id"][-1])), "different marker biases"),
        ("tokenizer.json", swap_two_tokens, "other prompt ids than recorded"),
        ("routing.json", lambda r: r.update(prompt_template="Now {prompt}\n"), "other prompt ids than recorded"),
        ("routing.json", lambda r: r.update(stop_token_ids=[]), "names no stop token"),
        ("routing.json", lambda r: r.update(stop_token_ids=r["marker"]["token_ids"][0]), "the marker's at once"),
        ("routing.json", lambda r: r.update(marker_bias=r["marker_bias"] + 1), "nor a calibration's"),
    ],
)
def test_what_does_not_follow_from_what_ships_is_a_mismatch_with_its_reason(damaged, name, change, said) -> None:
    rewrite(damaged, name, change)
    report = verify_bundle(open_bundle(damaged), None, [], None, None)
    assert (report.passed, report.outcome) == (False, "MISMATCH")
    assert any(fault.startswith("lowering:") and said in fault for fault in report.faults), report.faults


def test_a_bias_that_is_no_number_is_a_mismatch(damaged) -> None:
    text = (damaged / "routing.json").read_text()
    bias = json.loads(text)["marker_bias"]
    (damaged / "routing.json").write_text(text.replace(str(bias), "NaN"))
    hash_again(damaged)
    report = verify(damaged)
    assert (report.passed, report.outcome) == (False, "MISMATCH")
    assert "NaN is no JSON number" in report.faults[0]
    assert run_command(["verify", str(damaged)]) == 1
    (damaged / "routing.json").write_text("{}")  # and not hashed again: damaged
    with pytest.raises(BundleError, match="damaged"):
        verify(damaged)


def test_another_template_than_the_run_s_is_a_mismatch(damaged, policy, problems) -> None:
    rewrite(damaged, "routing.json", lambda r: r.update(prompt_template="Now {prompt}\n"))
    report = verify_bundle(open_bundle(damaged), policy, problems, None, None)
    assert any("template is not the reference's" in fault for fault in report.faults)


def test_cases_of_version_1_are_replayed_at_their_own_bias(damaged) -> None:
    opened = open_bundle(damaged)
    lines = []
    for case in opened.conformance():
        made = {
            name: {**{k: getattr(d, k) for k in ("token_ids", "route", "reason", "text", "answer", "marker_margin")}}
            for name, d in (
                ("reference", case.reference_decision(opened.routing, opened.vocabulary)),
                ("quantized_reference", opened.expected(case)),
            )
        }
        plain = {"id": case.id, "prompt": case.prompt, "prompt_token_ids": case.prompt_token_ids}
        lines.append(json.dumps({**plain, "marker_bias": case.marker_bias, **made}))
    (damaged / "conformance.jsonl").write_text("\n".join(lines))
    hash_again(damaged)
    report = verify_bundle(open_bundle(damaged), None, [], None, None)
    assert report.faults == []
    assert (report.passed, report.n, report.lowering.token_agreement) == (True, 40, 1.0)
    assert report.replay.choice_agreement == 1.0


def test_the_replay_and_the_noise_floor_are_told(tiny_bundle_folder, policy, problems) -> None:
    report = verify_bundle(open_bundle(tiny_bundle_folder), policy, problems, None, None)
    told = report.to_json()
    assert told["replay"]["choice_agreement"] == told["replay"]["decision_agreement"] == 1.0
    assert told["replay"]["steps"] > 100
    assert told["max_abs_logit_diff"] == told["lowering"]["max_abs_logit_diff"] == told["replay"]["max_abs_logit_diff"]
    assert 0 < told["noise_floor"]["max_abs_logit_diff"] < 1e-3
    assert set(told["noise_floor"]) == {*told["lowering"], "choice_agreement"}
    assert 0.99 < told["noise_floor"]["choice_agreement"] <= 1
    assert told["call_fraction_change"]["interval"][0] < 0 < told["call_fraction_change"]["interval"][1]
    assert told["overall_accuracy_change"] is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_thresholds_that_are_no_shares_are_refused(tiny_bundle_folder, value: float) -> None:
    with pytest.raises(EdgekitError, match="bad threshold: min_agreement"):
        Thresholds(min_agreement=value)
    assert run_command(["verify", str(tiny_bundle_folder), "--min-agreement", str(value)]) == 2
    assert run_command(["verify", str(tiny_bundle_folder), "--min-lowering", str(value)]) == 2


def test_a_policy_trained_on_its_grid_is_held_against_its_quantized_self(policy, problems, tmp_path) -> None:
    recipe = find_recipe("onnx_int4", "onnx").model_copy(update={"context_length": 64})
    recipe, _ = fit_to_model(policy.model, recipe)
    own = replace(policy, model=copy.deepcopy(policy.model).requires_grad_(True))
    GridWeights(own.model, recipe.quantize)
    own.grid = Grid(recipe=recipe.name, quantize=recipe.quantize)
    run = tmp_path / "run"
    run.mkdir()
    save_policy(own, run)
    prompts = [problem.prompt for problem in problems]
    bundle = open_bundle(export(run, recipe, tmp_path / "bundle", prompts=prompts, task="tiny"))
    report = verify_bundle(bundle, load_policy(run), problems, None, None)
    assert report.faults == []
    assert (report.quantization.decision_agreement, report.quantization.token_agreement) == (1.0, 1.0)
    float_run = verify_bundle(bundle, policy, problems, None, None)
    assert float_run.quantization.token_agreement < 1.0


def test_an_artifact_as_unsteady_as_its_reference_is_no_mismatch(policy, problems, tmp_path, monkeypatch) -> None:
    recipe, _ = fit_to_model(policy.model, find_recipe("onnx_int4", "onnx").model_copy(update={"context_length": 64}))
    own = replace(policy, model=copy.deepcopy(policy.model).requires_grad_(True))
    GridWeights(own.model, recipe.quantize)
    own.grid = Grid(recipe=recipe.name, quantize=recipe.quantize)
    (run := tmp_path / "run").mkdir()
    save_policy(own, run)
    reference = load_policy(run)
    bundle = open_bundle(
        export(run, recipe, tmp_path / "bundle", prompts=[each.prompt for each in problems], task="tiny")
    )
    shaken = replace(reference, model=copy.deepcopy(reference.model))
    with torch.no_grad():
        for name, weight in shaken.model.named_parameters():
            if "norm" in name:
                weight.mul_(1 + 0.0001 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    artifact = ReferenceModel(shaken.model)
    artifact.runtime = "shaken"
    steady = verify_bundle(bundle, reference, problems, None, None, model=artifact)
    assert 0.97 < steady.replay.choice_agreement < 0.99
    assert any("replayed choices agree, 99 % must" in fault for fault in steady.faults)
    monkeypatch.setattr(sys.modules[verify_bundle.__module__], "with_scaled_norms", lambda _: shaken)
    unsteady = verify_bundle(bundle, reference, problems, None, None, model=artifact)
    assert unsteady.replay == steady.replay
    assert not any("replayed choices" in fault for fault in unsteady.faults)


def test_a_replay_counts_the_calls_that_an_artifact_would_no_longer_make(tiny_bundle_folder, policy, problems) -> None:
    silent = copy.deepcopy(policy.model)
    with torch.no_grad():
        silent.model.norm.weight.neg_()
    artifact = ReferenceModel(silent)
    artifact.runtime = "negated"
    report = verify_bundle(open_bundle(tiny_bundle_folder), policy, problems, None, None, model=artifact)
    assert report.replay.broken > 0
    assert report.replay.decision_agreement < 1
