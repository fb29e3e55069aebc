"""Damaged bundles, which must fail in the right hop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from rehash import hash_again

from edgekit.bundle.load import open_bundle
from edgekit.cli.app import run_command
from edgekit.errors import BundleError
from edgekit.export.pipeline import export
from edgekit.policy.rope import rope_table
from edgekit.recipes.lookup import find_recipe
from edgekit.simulate import get_simulator
from edgekit.verify.check import verify_bundle
from edgekit.verify.report import VerifyReport
from edgekit.verify.structure import structure_faults
from edgekit.workflows.verify import verify


def assert_lowering_fails(report: VerifyReport) -> None:
    assert (report.passed, report.outcome) == (False, "MISMATCH")
    assert report.faults
    assert all(fault.startswith("lowering:") for fault in report.faults), report.faults
    assert report.quantization is not None
    assert report.quantization.decision_agreement == 1.0


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on_no_answer", "cloud"),
        ("max_new_tokens", 17),
        ("prompt_trim", "both"),
        ("answer", {"open": "<answer>", "close": "</b>"}),
    ],
)
def test_a_rule_of_decoding_that_is_not_the_run_s_is_a_mismatch(damaged, policy, name, value) -> None:
    """The recorded cases may follow from it all the same."""
    rewrite(damaged, "routing.json", lambda r: r.update({name: value}))
    faults = structure_faults(open_bundle(damaged), policy)
    assert any(fault.startswith(f"lowering: {name} ") for fault in faults), faults


def test_another_template_than_the_run_s_is_a_mismatch(damaged, policy, problems) -> None:
    rewrite(damaged, "routing.json", lambda r: r.update(prompt_template="Now {prompt}\n"))
    report = verify_bundle(open_bundle(damaged), policy, problems, None, None)
    assert any("template is not the reference's" in fault for fault in report.faults)


def reached(folder: Path) -> int:
    """How many positions the recorded cases take, at most."""
    return max(len(case.prompt_token_ids) + 16 for case in open_bundle(folder).conformance())


def with_late_table(folder: Path, first: int, damage) -> None:
    """Damage the rotary tables from position ``first`` on."""
    model = onnx.load(folder / "model.onnx")
    for table in model.graph.initializer:
        if table.name in ("cos_cache", "sin_cache"):
            values = numpy_helper.to_array(table).copy()
            values[first:] = damage(values)[first:]
            table.CopyFrom(numpy_helper.from_array(values, table.name))
    onnx.save(model, folder / "model.onnx")
    hash_again(folder)


def assert_only_late_replay_fails(report: VerifyReport) -> None:
    assert_lowering_fails(report)
    (fault,) = report.faults
    assert "to 64, which no prompt reached" in fault
    assert report.replay.choice_agreement == 1.0


@pytest.mark.parametrize("damage", [lambda table: np.roll(table, 1, 1), lambda table: np.repeat(table[:1], 64, 0)])
def test_a_rotary_table_that_is_wrong_only_late_fails_the_lowering_hop(damaged, policy, problems, damage) -> None:
    with_late_table(damaged, reached(damaged), damage)
    assert_only_late_replay_fails(verify_bundle(open_bundle(damaged), policy, problems, None, None))
    alone = verify_bundle(open_bundle(damaged), None, [], None, None)
    assert any("of the context's 64 positions" in note for note in alone.notes)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["executorch", "coreml"])
def test_a_table_that_is_lowered_wrong_only_late_is_found_on_every_target(
    tiny_policy_folder, tiny_bundle_folder, policy, problems, tmp_path, monkeypatch, target
) -> None:
    first = reached(tiny_bundle_folder)

    def stuck_late(*arguments):
        tables = rope_table(*arguments)
        return tuple(torch.cat([table[:first], table[first].expand_as(table[first:])]) for table in tables)

    recipe = find_recipe(f"{target}_fp32", target).model_copy(update={"context_length": 64})
    prompts = [problem.prompt for problem in problems]
    with monkeypatch.context() as broken:
        broken.setattr("edgekit.policy.model.rope_table", stuck_late)
        bundle = open_bundle(export(tiny_policy_folder, recipe, tmp_path / "bundle", prompts=prompts, task="tiny"))
    assert_only_late_replay_fails(verify_bundle(bundle, policy, problems, None, None))
    sound = export(tiny_policy_folder, recipe, tmp_path / "sound", prompts=prompts, task="tiny")
    assert verify_bundle(open_bundle(sound), policy, problems, None, None).faults == []


@pytest.mark.slow
@pytest.mark.parametrize("first", [36, 44])
def test_a_cache_that_slips_only_late_fails_the_lowering_hop(tiny_bundle_folder, policy, problems, first) -> None:
    bundle = open_bundle(tiny_bundle_folder)
    model = get_simulator("onnx").open_artifact(bundle.artifact, 64, 16)
    decode = model.decode

    def slip_once(token_id):
        model._position += model._position == first
        return decode(token_id)

    model.decode = slip_once
    assert_only_late_replay_fails(verify_bundle(bundle, policy, problems, None, None, model=model))


@pytest.mark.parametrize(("held", "said"), [("int8", "float"), ("float", "int8")])
def test_a_cache_other_than_the_recipe_says_is_a_mismatch(
    held, said, tiny_policy_folder, tiny_prompts, policy, problems, tmp_path, capsys
) -> None:
    floats = find_recipe("onnx_fp32", "onnx")
    quantize = floats.quantize.model_copy(update={"cache": held})
    recipe = floats.model_copy(update={"context_length": 64, "quantize": quantize})
    read = {"prompts": tiny_prompts, "calibration_prompts": tiny_prompts}
    folder = export(tiny_policy_folder, recipe, tmp_path / "bundle", **read, task="tiny")
    assert not any("cache" in fault for fault in verify(folder).faults)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["recipe"]["quantize"]["cache"] = said
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for reference in (policy, None):
        report = verify_bundle(open_bundle(folder), reference, problems, None, None)
        assert (report.passed, report.outcome) == (False, "MISMATCH")
        assert report.faults[0].startswith(f"lowering: wrong manifest: {folder}. Its recipe says a cache of {said}")
    assert run_command(["run", str(folder), "2 4 6 -> 48", "--cloud", "none"]) == 2
    assert f"model.onnx has one of {held}" in capsys.readouterr().err
