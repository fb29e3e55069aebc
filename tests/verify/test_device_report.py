"""A phone's self-test report: read, refused when it is not whole, and compared with the host's simulator."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle.load import Bundle, open_bundle
from edgekit.bundle.manifest import MANIFEST
from edgekit.cli.app import run_command
from edgekit.errors import BundleError
from edgekit.policy.checkpoint import load_policy
from edgekit.recipes.targets import TARGETS, Needs
from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.simulate import open_simulator
from edgekit.verify.device_check import verify_device
from edgekit.verify.device_report import DeviceReport, ordered_cases, read_device_report

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def bundle(tiny_bundle_folder: Path) -> Bundle:
    return open_bundle(tiny_bundle_folder)


@pytest.fixture(scope="module")
def sound(bundle: Bundle) -> dict[str, Any]:
    """What an app's self-test writes, made with the host's simulator as the phone's runtime."""
    facts = bundle.manifest.model
    model = open_simulator("onnx", bundle.artifact, facts.context_length, facts.prefill_chunk)
    cases = []
    for case in bundle.conformance():
        ids = bundle.encode(case.prompt)
        session = DecodeSession(bundle.routing, bundle.vocabulary, len(ids), facts.context_length)
        got = decode(model, ids, session)
        recorded = bundle.expected(case)
        match = (got.route, got.reason, got.answer) == (recorded.route, recorded.reason, recorded.answer)
        told = {"route": got.route, "reason": got.reason, "text": got.text, "answer": got.answer}
        margins = {"marker_margin": got.marker_margin, "marker_bias": bundle.routing.marker_bias}
        times = {"prefill_ms": 1.5, "decode_ms": 2.0 * (len(got.token_ids) - 1)}
        tokens = {"prompt_token_ids": ids, "token_ids": list(got.token_ids)}
        cases.append({"id": case.id, **tokens, **told, **margins, "outcome": "MATCH" if match else "MISMATCH", **times})
    return {
        "format": "edgekit-device-report",
        "version": 1,
        "bundle": {
            "manifest_sha256": hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest(),
            "target": "onnx",
            "recipe": "onnx_fp32",
        },
        "device": {"model": "Pixel 8", "os": "Android 15"},
        "app": {"name": "edgekit demo", "version": "1.0"},
        "runtime": {"name": "onnxruntime-android", "version": "1.23.0"},
        "cases": cases,
        "matched": len(cases),
        "mismatched": 0,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    def write_report(data: Any) -> Path:
        path = tmp_path / "report.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    return write_report


def test_a_sound_report_matches_with_and_without_the_run(bundle, sound, tiny_policy_folder) -> None:
    report = DeviceReport.model_validate(sound)
    for reference in (None, load_policy(tiny_policy_folder)):
        verdict = verify_device(bundle, report, reference)
        assert (verdict.passed, verdict.faults, verdict.mismatched) == (True, [], [])
        assert verdict.first_divergence is None
        assert verdict.simulator.token_agreement == 1.0
        assert verdict.overall.call_fraction_after == pytest.approx(0.4)
        assert verdict.to_json()["decode_tokens_per_s"] == pytest.approx(500)


def test_the_first_divergence_is_the_first_case_and_the_token_where_it_parts(bundle, sound) -> None:
    data = copy.deepcopy(sound)
    for number in (9, 4):
        case = data["cases"][number]
        case["token_ids"] = [*case["token_ids"][:2], 400, *case["token_ids"][3:]]
    data["cases"].reverse()  # the bundle's order counts
    verdict = verify_device(bundle, DeviceReport.model_validate(data))
    found = verdict.first_divergence
    assert (found.case, found.position, found.device_token) == (sound["cases"][4]["id"], 2, 400)
    assert found.expected_token == sound["cases"][4]["token_ids"][2]
    assert (found.against, found.expected) == ("simulator", found.device)
    assert verdict.simulator.token_agreement < 1.0
    assert verdict.replay.choice_agreement < 1.0
    assert found.sentence.startswith(f"{found.case}: the device parts from the simulator at generated token 2")


def flip(case: dict[str, Any]) -> None:
    """The same tokens, another decision."""
    if case["route"] == "cloud":
        case.update(route="local", reason="no_answer", outcome="MISMATCH")
    else:
        case.update(route="cloud", reason="marker", answer=None, outcome="MISMATCH")


def test_other_decisions_are_a_mismatch_of_the_device(bundle, sound) -> None:
    data = copy.deepcopy(sound)
    for case in data["cases"][:6]:
        flip(case)
    data.update(matched=len(data["cases"]) - 6, mismatched=6)
    verdict = verify_device(bundle, DeviceReport.model_validate(data))
    assert not verdict.passed
    assert verdict.mismatched == [case["id"] for case in data["cases"][:6]]
    assert {fault.split(":")[0] for fault in verdict.faults} == {"device"}
    assert any(f.startswith("device: 6 of 40 cases report what their own tokens do not") for f in verdict.faults)
    assert "decided otherwise" in verdict.first_divergence.sentence


def test_a_report_that_contradicts_itself_and_a_tokenizer_that_reads_otherwise_are_faults(bundle, sound) -> None:
    data = copy.deepcopy(sound)
    data["cases"][3]["outcome"] = "MISMATCH"
    data["cases"][5]["prompt_token_ids"].insert(2, 7)
    data.update(matched=len(data["cases"]) - 1, mismatched=1)
    verdict = verify_device(bundle, DeviceReport.model_validate(data))
    assert not verdict.passed
    assert any(f.startswith("tokenizer: 1 of 40") and f.endswith("at prompt token 2") for f in verdict.faults)
    assert any(f.startswith(f"device: {data['cases'][3]['id']} reports MISMATCH") for f in verdict.faults)


def test_without_the_runtime_here_recorded_decisions_serve(bundle, sound, monkeypatch) -> None:
    monkeypatch.setitem(TARGETS, "onnx", replace(TARGETS["onnx"], needs=Needs("absent", "absent", "onnx")))
    verdict = verify_device(bundle, DeviceReport.model_validate(sound))
    assert (verdict.passed, verdict.simulator, verdict.simulator_runtime) == (True, None, None)


def test_damaged_reports_are_refused_in_one_line(sound, write) -> None:
    def changed(**fields: Any) -> dict[str, Any]:
        return {**sound, **fields}

    first = sound["cases"][0]
    for data, said in [
        ("{", "unreadable"),
        ("[]", "not a device report"),
        (changed(format="x"), "not a device report"),
        (changed(version=2), "newer device report"),
        (changed(version="1"), "version"),
        (changed(matched=3), "It counts 3 and 0"),
        (changed(cases=[{**first, "token_ids": ["a"]}], matched=1), "cases.0.token_ids.0"),
        (changed(cases=[{**first, "decode_ms": -1.0}], matched=1), "decode_ms"),
        (
            json.dumps(changed(cases=[{**first, "marker_margin": 0}], matched=1)).replace(": 0,", ": NaN,"),
            "NaN is no JSON number",
        ),
        (changed(cases=[{**first, "route": "moon"}], matched=1), "route"),
        ({key: value for key, value in sound.items() if key != "device"}, "device: is missing"),
    ]:
        with pytest.raises(BundleError, match="device report") as caught:
            read_device_report(write(data))
        assert said in str(caught.value), data
        assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="no device report"):
        read_device_report(Path("/nowhere/report.json"))


def test_a_report_of_another_bundle_or_with_other_cases_is_refused(bundle, sound) -> None:
    cases = sound["cases"]
    other = {**sound["bundle"], "manifest_sha256": "0" * 64}
    for fields, said in [
        ({"bundle": other}, "wrong bundle.* whose manifest is 000000000000"),
        ({"cases": cases[:-2]}, f"2 of {len(cases)} cases are missing, first {cases[-2]['id']}"),
        ({"cases": [*cases[:-1], cases[0]]}, "have an id of their own"),
        ({"cases": [*cases, {**cases[0], "id": "case-x"}]}, "case-x. The bundle has no such case"),
        ({"cases": [{**cases[0], "marker_bias": 9.5}, *cases[1:]]}, "marker bias of 9.5"),
    ]:
        with pytest.raises(BundleError, match=said):
            ordered_cases(DeviceReport.model_validate({**sound, **fields}), bundle)


def test_the_command_s_exit_codes_and_json(tiny_bundle_folder, sound, write, capsys) -> None:
    arguments = ["verify", str(tiny_bundle_folder), "--device-report"]
    assert run_command([*arguments, str(write(sound)), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["n"], told["first_divergence"]) == ("MATCH", len(sound["cases"]), None)
    data = copy.deepcopy(sound)
    for case in data["cases"][:8]:
        flip(case)
    data.update(matched=len(data["cases"]) - 8, mismatched=8)
    assert run_command([*arguments, str(write(data))]) == 1
    assert f"first divergence: {data['cases'][0]['id']}" in " ".join(capsys.readouterr().out.split())
    assert run_command([*arguments, str(write("{"))]) == 2
    assert capsys.readouterr().err.startswith("error: unreadable device report")


def test_the_published_schema_needs_what_a_report_has(sound) -> None:
    published = json.loads((DOCS / "schema" / "device_report.json").read_text())
    assert set(published["required"]) == set(sound)


def test_what_an_app_adds_to_the_report_is_no_fault(sound, write) -> None:
    extended = {**sound, "battery": 0.5, "cases": [{**case, "note": "x"} for case in sound["cases"]]}
    assert len(read_device_report(write(extended)).cases) == len(sound["cases"])
