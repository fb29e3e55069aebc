"""Verification: hops worked by hand, and damaged bundles that must fail in the right hop."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from edgekit.bundle.load import open_bundle
from edgekit.bundle.manifest import MANIFEST, describe_files
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.recipes.targets import TARGETS, Needs
from edgekit.routing.decoder import Decision
from edgekit.simulate import get_simulator
from edgekit.tasks.base import Problem
from edgekit.verify.check import verify_bundle
from edgekit.verify.parity import Thresholds, VerifyReport, compare, find_faults, same_before_decision
from edgekit.verify.render import render


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


def test_faults_name_their_hop() -> None:
    good = compare([kept(1)] * 10, [kept(1)] * 10)
    other = compare([kept(1)] * 10, [kept(1)] * 8 + [called(2)] * 2)
    assert find_faults(good, good, 0.01, Thresholds()) == []
    assert [fault.split(":")[0] for fault in find_faults(other, good, None, Thresholds())] == ["quantization"]
    assert {fault.split(":")[0] for fault in find_faults(other, other, None, Thresholds())} == {"lowering"}
    assert find_faults(good, good, float("inf"), Thresholds()) == ["lowering: the artifact's logits are not finite"]


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


def test_a_marker_id_outside_the_vocabulary_fails_without_a_crash(damaged, policy, problems) -> None:
    data = json.loads((damaged / "routing.json").read_text())
    data["marker"]["token_ids"] = [[10**6]]
    (damaged / "routing.json").write_text(json.dumps(data))
    hash_again(damaged)
    report = verify_bundle(open_bundle(damaged), policy, problems, None, None)
    assert report.outcome == "MISMATCH"
    assert "outside the vocabulary" in report.faults[0]


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


def test_the_agreement_asked_for_is_what_decides(tiny_bundle_folder, policy, problems) -> None:
    other = replace(policy, routing=policy.routing.model_copy(update={"marker_bias": policy.routing.marker_bias + 3}))
    strict = verify_bundle(open_bundle(tiny_bundle_folder), other, problems, None, None)
    assert not strict.passed
    assert all(fault.startswith("quantization:") for fault in strict.faults)
    lenient = Thresholds(min_agreement=0.0)
    assert verify_bundle(open_bundle(tiny_bundle_folder), other, problems, None, None, limits=lenient).passed
