"""A bundle's documents, damaged with their hashes left and with hashes that fit: taken or refused in one line."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile.counting import Survives
from hostile.generators import damaged, json_variants, line_variants

from edgekit.bundle.conformance import read_conformance
from edgekit.bundle.load import open_bundle
from edgekit.bundle.manifest import MANIFEST, describe_file
from edgekit.errors import BundleError
from edgekit.routing.decoder import RoutingDecoder
from edgekit.verify.structure import case_faults


@pytest.fixture
def bundle(tiny_bundle_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_bundle_folder, tmp_path / "bundle"))


def put(bundle: Path, name: str, data: bytes) -> Path:
    """Write a file of the bundle, and let the manifest say so."""
    (bundle / name).write_bytes(data)
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"][name] = describe_file(bundle / name).model_dump()
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    return bundle


def test_flipped_bytes_and_cut_files_are_always_told(bundle: Path, survives: Survives) -> None:
    honest = {path.name: path.read_bytes() for path in sorted(bundle.iterdir())}
    names = [name for name in honest if name != MANIFEST]

    def attempt(number: int) -> None:
        name = names[number % len(names)]
        data = damaged(honest[name], number)
        (bundle / name).write_bytes(data)
        try:
            open_bundle(bundle)
            assert data == honest[name]
        finally:
            (bundle / name).write_bytes(honest[name])

    survives("bundle: bytes flipped, files cut", range(100), attempt, all_refused=True)


def test_a_manifest_of_any_kind_is_taken_or_refused(bundle: Path, survives: Survives) -> None:
    source = (bundle / MANIFEST).read_bytes()

    def attempt(data: bytes) -> None:
        (bundle / MANIFEST).write_bytes(data)
        open_bundle(bundle).manifest.export_recipe()

    count = survives("bundle: manifest", json_variants(source, 250), attempt)
    assert count.refused > count.tried / 2


@pytest.mark.parametrize("name", ["routing.json", "tokenizer.json"])
def test_routing_and_tokenizer_with_hashes_that_fit_are_used_or_refused(
    name: str, bundle: Path, survives: Survives
) -> None:
    source = (bundle / name).read_bytes()

    def attempt(data: bytes) -> None:
        opened = open_bundle(put(bundle, name, data))
        ids = opened.encode("3 5 7 -> 22 \u00e9")
        decoder = RoutingDecoder(opened.routing, opened.vocabulary)
        for token_id in ids[:20]:
            decoder.push(token_id)

    survives(f"bundle: {name}", json_variants(source, 60), attempt)


def test_a_template_that_multiplies_a_prompt_is_refused(bundle: Path) -> None:
    routing = json.loads((bundle / "routing.json").read_text())
    for times in (8, 9, 400_000):
        put(bundle, "routing.json", json.dumps(routing | {"prompt_template": "{prompt}" * times}).encode())
        if times == 8:
            open_bundle(bundle)
        else:
            with pytest.raises(BundleError, match=rf"stands in it {times:,} times, more than 8\. Export"):
                open_bundle(bundle)


def test_recorded_cases_of_any_kind_are_read_and_judged_or_refused(bundle: Path, survives: Survives) -> None:
    source = (bundle / "conformance.jsonl").read_bytes()
    source = b"".join(source.splitlines(keepends=True)[:6])

    def attempt(data: bytes) -> None:
        opened = open_bundle(put(bundle, "conformance.jsonl", data))
        case_faults(opened)

    survives("bundle: recorded cases", line_variants(source, 60), attempt)


def test_every_reader_refuses_what_is_no_plain_file_and_what_is_huge(bundle: Path, survives: Survives) -> None:
    kept = {path.name: path.read_bytes() for path in sorted(bundle.iterdir())}

    def pipe(path: Path) -> None:
        os.mkfifo(path)

    def device(path: Path) -> None:
        path.symlink_to("/dev/zero")

    def itself(path: Path) -> None:
        path.symlink_to(path)

    def folder(path: Path) -> None:
        path.mkdir()

    def sparse(path: Path) -> None:
        path.touch()
        os.truncate(path, 2**42)

    def attempt(case: tuple[str, Callable[[Path], None]]) -> None:
        name, make = case
        (bundle / name).unlink()
        try:
            make(bundle / name)
            with pytest.raises(BundleError):
                open_bundle(bundle)
            if name == "conformance.jsonl":
                with pytest.raises(BundleError):
                    read_conformance(bundle / name)
        finally:
            (bundle / name).rmdir() if make is folder else (bundle / name).unlink()
            (bundle / name).write_bytes(kept[name])

    makers = (pipe, device, itself, folder, sparse)
    survives("bundle: pipes, devices, links, sparse files", [(n, m) for n in kept for m in makers], attempt)


def test_what_a_manifest_says_of_sizes_and_names_leads_nowhere(bundle: Path, survives: Survives) -> None:
    honest = json.loads((bundle / MANIFEST).read_text())
    names = [
        "../x", "/etc/passwd", "a/../b", "a//b", "./a", "a\\b", "C:x", "\0", "", ".", "..", "a/", "con",
        "a" * 300, "\ud800",
        ".edgekit-x", "model.onnx/x", "routing.json/..", "\u2215etc", "~root", "file:///x", "%2e%2e/x",
        "model.onnx.data",
    ]  # fmt: skip

    def attempt(number: int) -> None:
        chance, manifest = random.Random(number), json.loads(json.dumps(honest))
        name = names[number % len(names)]
        entry = {"sha256": "0" * 64, "size": chance.choice((0, 1, 2**40, 2**48))}
        if number // len(names) == 0:
            manifest["files"][name] = entry
        elif number // len(names) == 1:
            manifest["artifact"] = name
        else:
            manifest["files"] = {name: entry}
            manifest["artifact"] = name
        (bundle / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(BundleError):
            open_bundle(bundle)

    survives("bundle: names and sizes", range(3 * len(names)), attempt)
