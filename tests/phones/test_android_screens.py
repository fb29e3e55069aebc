"""The Android app's screens, compiled against a stand-in for Compose, show what the core decided and nothing else."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from edgekit.bundle.load import open_bundle
from edgekit.export.pipeline import export
from edgekit.recipes.lookup import find_recipe
from edgekit.tasks import get_task
from edgekit.verify.device_report import ordered_cases, read_device_report

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "android_demo" / "render-on-host.sh"
BASE = ROOT / "edgekit" / "policy" / "base"
CANNOT_RUN = 77
TASK = get_task("countdown")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped policy in full precision, which keeps some of these prompts and calls for others."""
    prompts = [problem.prompt for problem in TASK.problems("test", 12, seed=0)]
    out = tmp_path_factory.mktemp("screens") / "onnx"
    return export(BASE, find_recipe("onnx_fp32", "onnx"), out, prompts=prompts, task=TASK.name)


def use_the_app(bundle: Path, out: Path) -> None:
    """Compile the screens if they changed, and let them be used over ``bundle``."""
    absent = [tool for tool in ("java", "npm") if shutil.which(tool) is None]
    if absent:
        pytest.skip(f"the screens were not compiled: {' and '.join(absent)} not found. Install a JDK 17 and Node.js.")
    command = [str(SCRIPT), str(bundle), str(out)]
    environment = {**os.environ, "PYTHON": sys.executable}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if run.returncode == CANNOT_RUN:
        pytest.skip(run.stdout.strip().splitlines()[-1])
    assert run.returncode == 0, run.stdout + run.stderr


def texts(out: Path, screen: str) -> list[str]:
    """What a screen says, from its top."""
    found = re.findall(r">([^<]+)<", (out / f"{screen}.html").read_text())
    return [html.unescape(text) for text in found if text.strip()]


def test_the_screens_show_what_the_core_decided(bundle_folder: Path, tmp_path: Path) -> None:
    use_the_app(bundle_folder, tmp_path)
    bundle = open_bundle(bundle_folder)
    cases = {bundle.expected(case).reason: case for case in reversed(bundle.conformance())}
    kept, called = cases["answer"], cases["marker"]
    own, handed = bundle.expected(kept), bundle.expected(called)

    device = texts(tmp_path, "device")
    assert {kept.prompt, own.text, "Answered on this device: it gave an answer", f"Answer: {own.answer}"} <= set(device)
    counts = f"{len(kept.prompt_token_ids)} + {len(own.token_ids)} tokens, device "
    assert any(text.startswith(counts) for text in device)
    assert {f"You: {kept.prompt}", "Copy"} <= set(device)
    assert "--live:polite" in (tmp_path / "device.html").read_text()
    assert "Cloud calls left in 20 prompts: 6" in device

    consent = texts(tmp_path, "consent")
    assert any(text.startswith(f"{called.prompt}\n\nIt goes to http://127.0.0.1:") for text in consent)
    assert {"Working", "Send this prompt to oracle?", handed.text} <= set(consent)

    cloud = texts(tmp_path, "cloud")
    answer = next(text for text in cloud if text.startswith("Answer: ")).removeprefix("Answer: ")  # the newest first
    problem = TASK.parse(called.prompt)
    assert problem is not None
    assert TASK.grade(problem, answer)
    assert {called.prompt, answer, "Answered by the cloud: the policy asked for help"} <= set(cloud)
    counts = rf"{len(called.prompt_token_ids)} \+ {len(handed.token_ids)} tokens, device \d+ ms, [\d.]+ tokens/s, "
    assert any(re.fullmatch(counts + r"memory \d+ MB, cloud \d+ ms", text) for text in cloud)
    assert f"You: {kept.prompt}" in cloud  # the conversation goes on
    assert "Cloud calls left in 20 prompts: 5" in cloud

    never = texts(tmp_path, "never")
    assert "Answered on this device: the prompt was kept here" in never
    assert "Cloud calls left in 20 prompts: 5" in never
    (kept_files,) = (tmp_path / "phone" / "private" / "bundles").glob("downloaded-*")
    assert {"bundle", kept_files.name} <= set(texts(tmp_path, "models"))
    assert open_bundle(kept_files).manifest == bundle.manifest

    rows = [text for text in texts(tmp_path, "self-test") if "  case-" in text]
    decisions = [(case.id, bundle.expected(case)) for case in bundle.conformance()]
    expected = [f"MATCH  {name}  {made.route} {made.reason} {made.answer or ''}  " for name, made in decisions]
    assert [row[: len(start)] for row, start in zip(rows, expected, strict=True)] == expected
    assert f"{len(rows)} MATCH, 0 MISMATCH" in texts(tmp_path, "self-test")
    report = read_device_report(tmp_path / "phone" / "files" / "device-report.json")
    assert [case.decision().token_ids for case in ordered_cases(report, bundle)] == [m.token_ids for _, m in decisions]


def test_a_case_decided_otherwise_is_a_mismatch_on_the_screen(bundle_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "bundle"
    shutil.copytree(bundle_folder, other)
    changed = other / "conformance.jsonl"
    cases = [json.loads(line) for line in changed.read_text().splitlines()]
    opened = open_bundle(other)
    kept = next(case.id for case in opened.conformance() if opened.expected(case).reason == "answer")
    wrong = next(case for case in cases if case["id"] == kept)
    wrong["quantized_reference"]["answer"] = "1 + 1"
    changed.write_text("".join(json.dumps(case) + "\n" for case in cases))
    manifest = json.loads((other / "manifest.json").read_text())
    content = changed.read_bytes()
    manifest["files"][changed.name] = {"sha256": sha256(content).hexdigest(), "size": len(content)}
    (other / "manifest.json").write_text(json.dumps(manifest))

    use_the_app(other, tmp_path / "out")
    shown = texts(tmp_path / "out", "self-test")
    assert f"{len(cases) - 1} MATCH, 1 MISMATCH" in shown
    assert [text.split()[1] for text in shown if text.startswith("MISMATCH ")] == [wrong["id"]]
