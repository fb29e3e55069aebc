"""Damaged artifacts, and folders with more in them than a bundle: refused in one line."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from hostile.counting import Count, Survives
from hostile.generators import damaged
from rehash import hash_again

from edgekit.bundle.load import misplaced, open_bundle
from edgekit.bundle.manifest import read_manifest
from edgekit.bundle.pack import copy_document
from edgekit.errors import BundleError
from edgekit.export.pipeline import export
from edgekit.recipes.lookup import find_recipe
from edgekit.simulate.onnx_check import check_model
from edgekit.simulate.pte_check import check_program
from edgekit.verify.check import verify_bundle

TRIED = 400


def refusal(model: Path) -> str | None:
    """Why the model is not even tried, or None."""
    try:
        check_model(model)
    except BundleError as error:
        return str(error)
    return None


def test_a_damaged_model_is_taken_or_refused_in_one_line(
    tiny_bundle_folder: Path, tmp_path: Path, survives: Survives
) -> None:
    source = (tiny_bundle_folder / "model.onnx").read_bytes()
    told = []
    for number in range(TRIED):
        (tmp_path / "model.onnx").write_bytes(damaged(source, number))
        told.append(refusal(tmp_path / "model.onnx"))
    refused = [why for why in told if why is not None]
    survives.add("artifact: model.onnx", Count(len(told), len(refused)))
    assert len(refused) > TRIED / 4
    assert not any("\n" in why for why in refused)
    (tmp_path / "model.onnx").write_bytes(source)
    assert refusal(tmp_path / "model.onnx") is None


def test_what_is_no_program_is_refused(tmp_path: Path, survives: Survives) -> None:
    def attempt(number: int) -> None:
        (tmp_path / "model.pte").write_bytes(damaged(b"\x20\0\0\0ET12eh00" + bytes(64), number))
        with pytest.raises(BundleError, match="cannot load"):
            check_program(tmp_path / "model.pte")

    survives("artifact: model.pte", range(100), attempt)


def odd_things(folder: Path) -> dict[str, Path]:
    """Put one of each kind of thing that belongs to no bundle into ``folder``."""
    made = {name: folder / name for name in ("pipe", "link", "folder", "dangling", "file", ".hidden")}
    os.mkfifo(made["pipe"])
    made["link"].symlink_to("/etc")
    made["folder"].mkdir()
    made["dangling"].symlink_to("nowhere")
    made["file"].write_text("x")
    made[".hidden"].write_text("x")
    return made


def test_what_lies_beside_a_model_and_is_no_plain_file_is_not_copied(tmp_path: Path, survives: Survives) -> None:
    source, target = tmp_path / "tokenizer_config.json", tmp_path / "copy"
    with open(tmp_path / "sparse", "wb") as sparse:
        sparse.truncate(2**33)
    made = {
        "pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "folder": Path.mkdir,
        "8 GiB": lambda path: path.symlink_to("sparse"),
    }  # fmt: skip

    def attempt(name: str) -> None:
        made[name](source)
        try:
            copy_document(source, target)
        finally:
            source.rmdir() if name == "folder" else source.unlink()

    survives("model folder: beside a model", made, attempt, all_refused=True)
    assert not target.exists()
    source.write_text("{}")
    copy_document(source, target)
    assert target.read_text() == "{}"


def test_what_the_manifest_does_not_list_is_told(tiny_bundle_folder: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle_folder, tmp_path / "bundle"))
    made = odd_things(bundle)
    faults = "; ".join(misplaced(bundle, read_manifest(bundle)))
    assert all(name in faults for name in made)
    with pytest.raises(BundleError, match="damaged bundle"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "routing.json", "conformance.jsonl", "README.md"])
def test_a_listed_file_that_is_a_pipe_or_a_link_is_told(tiny_bundle_folder: Path, tmp_path: Path, name: str) -> None:
    bundle = Path(shutil.copytree(tiny_bundle_folder, tmp_path / "bundle"))
    for make in (os.mkfifo, lambda path: os.symlink(tiny_bundle_folder / name, path)):
        (bundle / name).unlink()
        make(bundle / name)
        with pytest.raises(BundleError, match=f"{name} is (a link|no plain file)"):
            open_bundle(bundle)


WEIGHTS = {"onnx": "model.onnx", "executorch": "model.pte", "coreml": "weight.bin"}


@pytest.mark.slow
@pytest.mark.parametrize("target", WEIGHTS)
def test_a_damaged_artifact_whose_hashes_fit_is_verified_to_an_end(
    tiny_policy_folder: Path, tiny_prompts: list[str], tmp_path: Path, survives: Survives, target: str
) -> None:
    recipe = find_recipe(f"{target}_int8", target).model_copy(update={"context_length": 64})
    honest = export(tiny_policy_folder, recipe, tmp_path / "honest", prompts=tiny_prompts, task="tiny")
    artifact = next(path.relative_to(honest) for path in honest.rglob(WEIGHTS[target]))
    source = (honest / artifact).read_bytes()

    def attempt(number: int) -> None:
        folder = Path(shutil.copytree(honest, tmp_path / "damaged"))
        (folder / artifact).write_bytes(spoiled(source, number))
        hash_again(folder)
        try:
            report = verify_bundle(open_bundle(folder), None, [], None, None)
        finally:
            shutil.rmtree(folder)
        assert report.passed == (not report.faults)
        if report.faults:
            raise BundleError("; ".join(report.faults))

    survives(f"artifact: {target}, to its end", range(8), attempt)


def spoiled(data: bytes, number: int) -> bytes:
    """Bytes damaged anywhere; every second time a stretch of them is one number: infinite, NaN, huge or 0. 0: sound."""
    if number % 2 or number == 0:
        return damaged(data, number) if number else data
    chance = random.Random(number)
    value = bytes.fromhex(chance.choice(("0000807f", "0000c07f", "007c007c", "ffff7f7f", "00000000")))
    at, count = chance.randrange(len(data)) // 4 * 4, chance.choice((1, 16, 400))
    return (data[:at] + value * count + data[at + 4 * count :])[: len(data)]
