"""The Android adapters over the real libraries: all compiled against them, the ONNX one run on this machine's Java.

Under ONNX Runtime's Java library, 1.17.0, lies the runtime that Python has here. The library calls itself by its own
version, so the bundles' ``oldest`` is lowered to that, but for the bundle that must be refused.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rehash import hash_again

from edgekit.bundle.load import Bundle, open_bundle
from edgekit.bundle.manifest import MANIFEST
from edgekit.export.pipeline import export
from edgekit.recipes.lookup import find_recipe
from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.simulate.on_onnxruntime import open_artifact
from edgekit.tasks import get_task
from edgekit.verify.device_report import ordered_cases, read_device_report

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "android_demo" / "adapters-on-host.sh"
BASE = ROOT / "edgekit" / "policy" / "base"
PROMPTS = [problem.prompt for problem in get_task("countdown").problems("test", 12, seed=0)]
RECIPES = ("onnx_fp32", "onnx_int8", "onnx_int4")
CANNOT_RUN = 77
HEAP = 16_000_000
"""Bytes that the script lets the Java heap grow to. Direct buffers get a megabyte."""
pytestmark = pytest.mark.slow


def run(*arguments: str | Path) -> list[str]:
    """What the adapter said; skips, with the reason, where the libraries are not at hand."""
    if absent := [tool for tool in ("java", "npm") if shutil.which(tool) is None]:
        pytest.skip(f"the adapters were not compiled: {' and '.join(absent)} not found. Install a JDK 17 and Node.js.")
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode == CANNOT_RUN:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout.splitlines()


def bundle_of(recipe: str, folder: Path, policy: Path = BASE, oldest: str | None = "1.17", **changes: Any) -> Path:
    """The shipped policy as ``recipe`` has it, which the Java library thinks it is new enough for."""
    wanted = find_recipe(recipe, "onnx").model_copy(update=changes)
    export(policy, wanted, folder, prompts=PROMPTS, task="countdown")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["runtime"]["oldest"] = oldest or manifest["runtime"]["oldest"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def changed(bundle: Path, name: str, change: Any) -> Path:
    """A copy of ``bundle`` called ``name`` whose ONNX model ``change`` has altered."""
    import onnx

    folder = bundle.with_name(name)
    shutil.copytree(bundle, folder)
    model = onnx.load(folder / "model.onnx")
    change(model.graph)
    onnx.save(model, folder / "model.onnx")
    hash_again(folder)
    return folder


def halve_caches(graph: Any) -> None:
    """Make the caches that come in and go out float16, as no recipe does yet; the attention between stays float32."""
    from onnx import TensorProto, helper

    before, after = [], []
    for value in (*graph.input, *graph.output):
        is_past = value.name.startswith("past_")
        if not is_past and not value.name.startswith("present_"):
            continue
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
        inner = value.name + "_float32"
        for node in graph.node:
            names = node.input if is_past else node.output
            for place, name in enumerate(names):
                names[place] = inner if name == value.name else name
        if is_past:
            before.append(helper.make_node("Cast", [value.name], [inner], to=TensorProto.FLOAT))
        else:
            after.append(helper.make_node("Cast", [inner], [value.name], to=TensorProto.FLOAT16))
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)


def poison(graph: Any) -> None:
    """Give a vector of weights, which every token meets, the value NaN."""
    from onnx import numpy_helper

    weights = next(item for item in graph.initializer if item.dims == [128])
    values = np.full_like(numpy_helper.to_array(weights), np.nan)
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))


def truncate(folder: Path) -> Path:
    """Half of its model, listed as if it were whole."""
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    hash_again(folder)
    return folder


@dataclass(frozen=True)
class Replayed:
    """The bundles that were given to the adapter, where it left its reports, and what it said of each."""

    folder: Path
    out: Path
    lines: Sequence[str]

    def said(self, name: str) -> dict[str, str]:
        """What came of each thing tried with the bundle, "done" or the error's kind and line."""
        told = [line.removeprefix(f"{name}: ").split(": ", 1) for line in self.lines if line.startswith(f"{name}: ")]
        return dict(told)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """One run of the adapter over all bundles."""
    folder, out = tmp_path_factory.mktemp("bundles"), tmp_path_factory.mktemp("out")
    bundles = [bundle_of(recipe, folder / recipe) for recipe in RECIPES]
    bundles += [changed(bundles[0], "float16_caches", halve_caches), changed(bundles[0], "nan", poison)]
    bundles += [truncate(Path(shutil.copytree(bundles[0], folder / "cut")))]
    bundles += [
        bundle_of("onnx_fp32_standard", folder / "standard"),
        bundle_of("onnx_int4", folder / "new", oldest=None),
    ]
    return Replayed(folder, out, run(out, *bundles))


def python_s(bundle: Bundle) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The logits of every step that the replay of ``bundle`` takes in Python's ONNX Runtime."""
    facts, rows = bundle.manifest.model, list[Any]()
    model = open_artifact(bundle.artifact, facts.context_length, facts.prefill_chunk)
    for case in bundle.conformance():
        ids = list(case.prompt_token_ids)
        session = DecodeSession(bundle.routing, bundle.vocabulary, len(ids), facts.context_length, logits=rows)
        decode(model, ids, session)
    return np.stack(rows)


@pytest.mark.parametrize(("name", "judge", "tolerance"), [
    *((recipe, recipe, 1e-4) for recipe in RECIPES),
    ("float16_caches", "onnx_fp32", 0.05),
])  # fmt: skip
def test_the_adapter_gives_python_s_logits_and_decisions(
    name: str, judge: str, tolerance: float, replayed: Replayed
) -> None:
    bundle = open_bundle(replayed.folder / name)
    report = read_device_report(replayed.out / f"{name}.json")
    expected = [bundle.expected(case) for case in bundle.conformance()]
    assert {decision.reason for decision in expected} >= {"answer", "marker"}
    reported = ordered_cases(report, bundle)
    assert [case.decision().token_ids for case in reported] == [decision.token_ids for decision in expected]
    assert [case.outcome for case in reported] == ["MATCH"] * len(PROMPTS)

    wanted = python_s(open_bundle(replayed.folder / judge))
    got = np.fromfile(replayed.out / f"{name}.f32", ">f4").reshape(-1, wanted.shape[1])
    print(f"{name}: {len(got)} steps, largest difference {np.abs(got - wanted).max():.2g}")
    np.testing.assert_allclose(got, wanted, atol=tolerance)


@pytest.mark.parametrize("name", [*RECIPES, "float16_caches"])
def test_a_stopped_or_failed_run_leaves_it_as_it_was_and_a_closed_one_says_so(name: str, replayed: Replayed) -> None:
    said = replayed.said(name)
    assert said["opened"] == "done"  # and every decision after these was right
    assert said["stopped"].startswith("stopped: ")
    assert said["too many tokens"].startswith("device_failed: device failed: OrtException: ")
    assert said["closed"].startswith("device_failed: device failed: IllegalStateException: ")


@pytest.mark.parametrize(("name", "line"), [
    ("nan", "bad_logits: bad logits: token 0 of the response."),
    ("cut", "device_failed: cannot load "),
    ("standard", "unsupported: cannot run model.onnx: its layout is standard."),
    ("new", "unsupported: runtime too old: this app. It has onnxruntime 1.17.0,"),
])  # fmt: skip
def test_what_it_cannot_run_is_one_line_of_its_kind(name: str, line: str, replayed: Replayed) -> None:
    assert replayed.said(name)["opened"].startswith(line)


def test_caches_lie_in_no_java_memory_however_long_it_decodes(tmp_path: Path) -> None:
    policy = Path(shutil.copytree(BASE, tmp_path / "policy"))
    config = json.loads((policy / "config.json").read_text())
    (policy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 16_384}))
    bundle = bundle_of("onnx_fp32", tmp_path / "long", policy, context_length=16_384)
    facts = open_bundle(bundle).manifest.model
    caches = 2 * facts.layers * facts.key_value_heads * facts.head_dim * facts.context_length * 4
    assert caches > HEAP

    told, last = run("--decode", "2000", bundle)
    assert last == "closed"
    print(told)
    used = {name: int(count) for name, count in re.findall(r"(heap|direct|mapped) (\d+)(?:,|$)", told)}
    assert used["mapped"] == caches
    assert used["direct"] < 100_000
    assert used["heap"] < HEAP
