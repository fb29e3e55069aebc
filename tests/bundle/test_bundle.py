"""Bundles: what is in one, and that no damaged, newer or tampered one is opened."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.bundle.load import open_bundle
from edgekit.bundle.manifest import MANIFEST, describe_files, is_inside, read_manifest
from edgekit.bundle.pack import replace_routing
from edgekit.errors import BundleError


@pytest.fixture
def bundle(tiny_bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle_folder, tmp_path / "bundle"))


def edit_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    data = json.loads((folder / MANIFEST).read_text())
    change(data)
    (folder / MANIFEST).write_text(json.dumps(data))


def test_a_whole_bundle_opens_and_encodes_like_its_recorded_prompts(bundle: Path, tiny_prompts: list[str]) -> None:
    opened = open_bundle(bundle)
    cases = opened.conformance()
    assert [case.prompt for case in cases] == tiny_prompts
    assert all(opened.encode(case.prompt) == list(case.prompt_token_ids) for case in cases)
    decided = [case.reference_decision(opened.routing, opened.vocabulary) for case in cases]
    assert sum(decision.called for decision in decided) == 16
    assert [opened.expected(case) == reference for case, reference in zip(cases, decided, strict=True)]
    assert opened.artifact.name == "model.onnx"
    assert set(opened.manifest.files) == {p.name for p in bundle.iterdir()} - {MANIFEST}


def test_the_manifest_names_no_machine_path_and_no_time(bundle: Path) -> None:
    text = (bundle / MANIFEST).read_text()
    assert str(Path.home()) not in text
    assert "/tmp" not in text
    assert set(json.loads(text)["provenance"]) == {"edgekit", "task", "policy_sha256"}


def test_one_flipped_byte_is_seen_in_any_file(bundle: Path) -> None:
    for name in read_manifest(bundle).files:
        file = bundle / name
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        with pytest.raises(BundleError, match=f"{name} has changed"):
            open_bundle(bundle)
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    open_bundle(bundle)


def test_missing_truncated_added_and_linked_files_are_all_named(bundle: Path) -> None:
    (bundle / "README.md").unlink()
    (bundle / "extra.bin").write_bytes(b"x")
    (bundle / "model.onnx").write_bytes(b"short")
    (bundle / "tokenizer.json").rename(bundle.parent / "elsewhere.json")
    (bundle / "tokenizer.json").symlink_to(bundle.parent / "elsewhere.json")
    with pytest.raises(BundleError) as error:
        open_bundle(bundle)
    for fault in ("README.md is missing", "extra.bin is not in", "model.onnx has 5 bytes", "tokenizer.json is a link"):
        assert fault in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=2), "newer bundle"),
        (lambda m: m.update(format="zip"), "not a bundle"),
        (lambda m: m.update(target="gameboy"), "bad manifest.*target"),
        (lambda m: m.pop("model"), "bad manifest.*model"),
        (lambda m: m.update(artifact="../model.onnx"), "outside the bundle"),
        (lambda m: m["files"].update({"/etc/passwd": m["files"]["README.md"]}), "outside the bundle"),
        (lambda m: m["files"].pop("model.onnx"), "lacks the artifact"),
        (lambda m: m["files"].pop("routing.json"), "lacks routing.json"),
    ],
)
def test_a_wrong_manifest_is_refused(bundle: Path, change: Callable[[dict], object], message: str) -> None:
    edit_manifest(bundle, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a\\b", "", ".", "c:/x", "a//b", "a\0"])
def test_names_that_leave_the_bundle_are_not_inside(name: str) -> None:
    assert not is_inside(name)
    assert is_inside("model.mlpackage/Data/weights/weight.bin")


def test_what_finder_and_explorer_leave_does_no_harm(bundle: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (bundle / name).write_bytes(b"x")
    open_bundle(bundle)
    for other in (".DS_Store2", "._model.onnx", ".ds_store"):
        (bundle / other).write_bytes(b"x")
        with pytest.raises(BundleError, match="is not in the manifest"):
            open_bundle(bundle)
        (bundle / other).unlink()
    (bundle / ".DS_Store").unlink()
    (bundle / ".DS_Store").symlink_to(bundle / "model.onnx")
    with pytest.raises(BundleError, match=r"\.DS_Store is a link"):
        open_bundle(bundle)


def test_a_token_that_the_model_does_not_have_is_refused(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest["model"].update(vocab_size=100))
    with pytest.raises(BundleError, match="but the model has 100"):
        open_bundle(bundle)


def test_other_things_are_not_bundles(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BundleError, match="not a bundle"):
            open_bundle(path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match="unreadable manifest"):
        open_bundle(tmp_path)


def test_new_routing_data_refreshes_its_hash_only(bundle: Path) -> None:
    before = read_manifest(bundle)
    opened = open_bundle(bundle)
    replace_routing(bundle, opened.routing.model_copy(update={"marker_bias": 1.5}))
    after = open_bundle(bundle)
    assert after.routing.marker_bias == 1.5
    changed = {name for name in before.files if before.files[name] != after.manifest.files[name]}
    assert changed == {"routing.json"}
    assert describe_files(bundle) == after.manifest.files


def test_opening_a_bundle_needs_no_torch(bundle: Path) -> None:
    code = "import sys, pathlib; from edgekit.bundle.load import open_bundle; open_bundle(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules", str(bundle)], check=True)
