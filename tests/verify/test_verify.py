"""Verifying a bundle with its run and by itself: what is told, what is judged, what is refused."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace

import pytest
import torch
from rehash import hash_again
from rich.console import Console

from edgekit.bundle.load import open_bundle
from edgekit.cli.app import run_command
from edgekit.errors import BundleError, EdgekitError
from edgekit.evaluate.answers import PolicyDecider
from edgekit.evaluate.calibrate import calibrate, calibration_facts, store_calibration
from edgekit.export.pipeline import export
from edgekit.export.plan import fit_to_model
from edgekit.policy.checkpoint import load_policy, save_policy
from edgekit.policy.grid import Grid
from edgekit.policy.reference import ReferenceModel
from edgekit.quantize.grid import GridWeights
from edgekit.recipes.lookup import find_recipe
from edgekit.recipes.targets import TARGETS, Needs
from edgekit.verify.check import verify_bundle, with_recipe
from edgekit.verify.judge import FULL_PRECISION_CHOICES, Thresholds
from edgekit.verify.render import render
from edgekit.workflows.verify import verify


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


def test_a_prompt_without_room_is_left_out_and_told_and_without_another_nothing_is_verified(
    tiny_bundle_folder, policy, problems
) -> None:
    bundle = open_bundle(tiny_bundle_folder)
    long = replace(problems[0], prompt=" ".join([problems[0].prompt] * bundle.manifest.model.context_length))
    report = verify_bundle(bundle, policy, [long, *problems[:2]], None, None)
    assert (report.outcome, report.n) == ("MATCH", 2)
    assert report.notes[0] == "1 of 3 prompts leave no room in the context: the cloud gets them, unread"
    with pytest.raises(EdgekitError, match=r"nothing to verify on\. None of 1 prompts"):
        verify_bundle(bundle, policy, [long], None, None)


def test_a_cache_of_integers_rounds_though_no_weight_does(tiny_bundle_folder) -> None:
    bundle = open_bundle(tiny_bundle_folder)
    shares = []
    for cache in ("float", "int8"):
        recipe = {**bundle.manifest.recipe, "quantize": {"cache": cache}}
        one = replace(bundle, manifest=bundle.manifest.model_copy(update={"recipe": recipe}))
        shares.append(with_recipe(Thresholds(), one).min_replayed_choices)
    assert shares == [FULL_PRECISION_CHOICES, None]


@pytest.mark.parametrize(
    ("quantize", "fault"),
    [({"cache": "int4"}, "quantize.cache: 'int4' is not one of"), ([1], "quantize: ")],
)
def test_a_manifest_with_a_recipe_that_is_none_is_told_in_a_line(damaged, tiny_policy_folder, quantize, fault) -> None:
    manifest = json.loads((damaged / "manifest.json").read_text())
    manifest["recipe"]["quantize"] = quantize
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    for reference in (tiny_policy_folder, None):
        with pytest.raises(BundleError, match=rf"bad recipe in manifest\.json: {fault}"):
            verify(damaged, reference, task="countdown")


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


@pytest.mark.slow
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
