"""A bundle's archive: the same bytes for the same bundle, and nothing written that its manifest does not name."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.bundle.archive import opened_bundle, pack_archive
from edgekit.bundle.manifest import MANIFEST
from edgekit.cli.app import run_command
from edgekit.errors import BundleError, EdgekitError

Entries = list[tuple[zipfile.ZipInfo, bytes]]


@pytest.fixture(scope="module")
def archive(tiny_bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_archive(tiny_bundle_folder, tmp_path_factory.mktemp("packed") / "tiny.zip")


def rewritten(archive: Path, out: Path, change: Callable[[Entries], object]) -> Path:
    """``archive`` again, its entries changed."""
    with zipfile.ZipFile(archive) as source:
        entries = [(entry, source.read(entry)) for entry in source.infolist()]
    change(entries)
    with zipfile.ZipFile(out, "w") as target:
        for entry, data in entries:
            target.writestr(entry, data)
    return out


def test_equal_bundles_give_equal_bytes_whatever_their_files_times_modes_and_order(
    archive: Path, tiny_bundle_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    for number, path in enumerate(sorted(tiny_bundle_folder.iterdir(), reverse=True)):
        shutil.copyfile(path, other / path.name)
        os.utime(other / path.name, (number, number))
        (other / path.name).chmod(0o600)
    assert pack_archive(other, tmp_path / "other.zip").read_bytes() == archive.read_bytes()
    assert pack_archive(other, tmp_path / "other.zip").read_bytes() == archive.read_bytes()  # in its own place


def test_any_program_unpacks_it_to_the_bundle(archive: Path, tiny_bundle_folder: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(archive, tmp_path / "unpacked")
    for path in tiny_bundle_folder.iterdir():
        assert (tmp_path / "unpacked" / path.name).read_bytes() == path.read_bytes()


def test_it_is_inspected_and_verified_as_it_is_and_leaves_nothing(
    archive: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_command(["inspect", str(archive), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["integrity"] == "ok"
    assert run_command(["verify", str(archive), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "MATCH"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".edgekit")]


def test_a_damaged_bundle_is_not_packed_and_nothing_but_an_archive_is_replaced(
    tiny_bundle_folder: Path, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(tiny_bundle_folder, tmp_path / "bundle"))
    (damaged / "routing.json").write_bytes((damaged / "routing.json").read_bytes() + b" ")
    with pytest.raises(BundleError, match="damaged bundle"):
        pack_archive(damaged, tmp_path / "b.zip")
    assert not (tmp_path / "b.zip").exists()
    (tmp_path / "notes.txt").write_text("mine")
    shutil.make_archive(str(tmp_path / "letters"), "zip", tmp_path / "bundle", "README.md")  # nor any other's
    for taken in (tmp_path / "notes.txt", tmp_path / "letters.zip", tmp_path / "bundle"):
        with pytest.raises(EdgekitError, match="output exists"):
            pack_archive(tiny_bundle_folder, taken)


def test_a_bundle_is_not_packed_into_itself(tiny_bundle_folder: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle_folder, tmp_path / "bundle"))
    (tmp_path / "link").symlink_to(bundle)
    before = sorted(bundle.rglob("*"))
    for out in (bundle / "b.zip", bundle / "new" / "b.zip", tmp_path / "link" / "b.zip"):
        with pytest.raises(EdgekitError, match="in the bundle itself"):
            pack_archive(bundle, out)
    assert sorted(bundle.rglob("*")) == before
    pack_archive(bundle, tmp_path / "bundle.zip")


def outside(entries: Entries) -> None:
    entries.append((zipfile.ZipInfo("../outside"), b"x"))


def absolute(entries: Entries) -> None:
    entries.append((zipfile.ZipInfo("/outside"), b"x"))


def link(entries: Entries) -> None:
    entry = zipfile.ZipInfo("README.md")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    entries[:] = [each for each in entries if each[0].filename != "README.md"] + [(entry, b"/etc/passwd")]


def folder(entries: Entries) -> None:
    entries.append((zipfile.ZipInfo("folder/"), b""))


def nameless(entries: Entries) -> None:
    entries.append((zipfile.ZipInfo(""), b"x"))


def named_too_long(entries: Entries) -> None:
    manifest = json.loads({entry.filename: data for entry, data in entries}[MANIFEST])
    manifest["files"]["a" * 5000] = {"sha256": "0" * 64, "size": 1}
    entries[:] = [(e, json.dumps(manifest).encode() if e.filename == MANIFEST else data) for e, data in entries]
    entries.append((zipfile.ZipInfo("a" * 5000), b"x"))


def compressed(entries: Entries) -> None:
    for entry, _ in entries:
        entry.compress_type = zipfile.ZIP_DEFLATED


def another_byte(entries: Entries) -> None:
    entries[:] = [(entry, data[:-1] + b"!" if entry.filename == "README.md" else data) for entry, data in entries]


def longer(entries: Entries) -> None:
    entries[:] = [(entry, data + b"!" if entry.filename == "README.md" else data) for entry, data in entries]


def without_manifest(entries: Entries) -> None:
    entries[:] = [each for each in entries if each[0].filename != MANIFEST]


def manifest_that_leaves(entries: Entries) -> None:
    manifest = json.loads({entry.filename: data for entry, data in entries}[MANIFEST])
    manifest["files"]["../outside"] = {"sha256": "0" * 64, "size": 1}
    entries[:] = [(e, json.dumps(manifest).encode() if e.filename == MANIFEST else data) for e, data in entries]
    outside(entries)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (outside, "not in the manifest"),
        (absolute, "not in the manifest"),
        (link, "no plain file"),
        (folder, "no plain file"),
        (nameless, "is no name"),
        (named_too_long, "File name too long"),
        (compressed, "is compressed"),
        (another_byte, "README.md has changed"),
        (longer, "instead of"),
        (without_manifest, "has no manifest.json"),
        (manifest_that_leaves, "outside the bundle"),
    ],
)
def test_what_pack_does_not_make_is_refused_by_the_archive_s_name(
    archive: Path, tmp_path: Path, change: Callable[[Entries], object], message: str, monkeypatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    made = rewritten(archive, tmp_path / "made.zip", change)
    with pytest.raises(BundleError, match=message) as error, opened_bundle(made):
        pass
    assert str(made) in str(error.value)
    assert str(tmp_path / "scratch") not in str(error.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["made.zip", "scratch"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(archive: Path, tmp_path: Path) -> None:
    made = rewritten(archive, tmp_path / "made.zip", lambda entries: entries.append(entries[1]))
    with pytest.raises(BundleError, match="stands twice"), opened_bundle(made):
        pass


def test_an_archive_whose_files_share_their_bytes_is_refused_before_any_is_written(
    archive: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made.zip"
    with zipfile.ZipFile(shutil.copyfile(archive, made), "a") as target:
        largest = max(target.infolist(), key=lambda entry: entry.file_size)
        for number in range(3):
            again = copy.copy(largest)
            again.filename = f"again-{number}"
            target.filelist.append(again)
        target.writestr(zipfile.ZipInfo("more"), b"")  # so that the directory is written anew
    with pytest.raises(BundleError, match="its files are longer than it"), opened_bundle(made):
        pass


def test_an_archive_cut_anywhere_or_with_a_comment_is_one_line(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    for length in (0, 1, 21, 22, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.zip").write_bytes(data[:length])
        with pytest.raises(BundleError), opened_bundle(tmp_path / "cut.zip"):
            pass
    with zipfile.ZipFile(commented := io.BytesIO(data), "a") as target:
        target.comment = b"x"
    (tmp_path / "comment.zip").write_bytes(commented.getvalue())
    with pytest.raises(BundleError, match="not one that edgekit pack makes"), opened_bundle(tmp_path / "comment.zip"):
        pass


@pytest.mark.parametrize("moves_places", [False, True])
def test_an_archive_with_bytes_before_it_is_refused(archive: Path, tmp_path: Path, moves_places: bool) -> None:
    """Other programs would take such a file for what it begins as, and unzip would still open it."""
    before, data = b"#!/bin/sh\nexit\n", bytearray(archive.read_bytes())
    if moves_places:  # as zip -A does, so that no reader sees that something was put before
        with zipfile.ZipFile(archive) as packed:
            at, entries = packed.start_dir, packed.infolist()
        for entry in entries:
            data[at + 42 : at + 46] = (entry.header_offset + len(before)).to_bytes(4, "little")
            at += 46 + len(entry.filename)
        data[-6:-2] = (int.from_bytes(data[-6:-2], "little") + len(before)).to_bytes(4, "little")
    (tmp_path / "made.zip").write_bytes(before + data)
    with zipfile.ZipFile(tmp_path / "made.zip") as readable:
        assert readable.testzip() is None
    with pytest.raises(BundleError, match="come before them"), opened_bundle(tmp_path / "made.zip"):
        pass


def test_no_changed_byte_opens_a_bundle_other_than_the_packed_one(archive: Path, tmp_path: Path) -> None:
    """Every byte of the directory at the end, and some of the rest: refused, or the very same files."""
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as packed:
        start = packed.start_dir
        files = {entry.filename: packed.read(entry) for entry in packed.infolist()}
    refused = 0
    for place in [*range(start, len(data), 11), *range(0, start, start // 10)]:
        data[place] ^= 0x41
        (tmp_path / "made.zip").write_bytes(data)
        data[place] ^= 0x41
        try:
            with opened_bundle(tmp_path / "made.zip") as bundle:
                assert {name: (bundle.path / name).read_bytes() for name in files} == files
        except BundleError:
            refused += 1
    assert refused > 10
