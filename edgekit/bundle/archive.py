"""A bundle as one file to hand over: a ZIP of stored files whose bytes follow from the bundle's alone.

Nothing in it is compressed: weights hardly shrink, compressors differ between machines, and an archive whose files are
as long as they lie in it cannot swell. What is opened here is what was packed here; any program unpacks it.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from edgekit.atomic_write import scratch_directory
from edgekit.bundle.load import Bundle, open_bundle
from edgekit.bundle.manifest import MANIFEST, Manifest, describe_file, read_manifest
from edgekit.bundle.signature import signature_file
from edgekit.errors import BundleError, EdgekitError, ErrorKind, listed
from edgekit.plain_file import DOCUMENT_BYTES, open_plain

MOST_BYTES: Final = 2**31 - 1
"""Of the files of one archive; more would need ZIP64, and no phone runs it."""
MOST_FILES: Final = 2**10
DIRECTORY_BYTES: Final = 2**20
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = stat.S_IFREG | 0o644
_END, _END_BYTES = b"PK\x05\x06", 22
_HEADER_BYTES = 30
_FIRST = MANIFEST.encode()
_ZIP64, _ZIP64_BYTES = b"PK\x06\x07", 20
_UNREADABLE = (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, LookupError, ArithmeticError, struct.error)
"""What the reader raises for bytes that are no archive; ValueError also where an entry begins beyond any file."""
_CONTRADICTORY = frozenset({errno.EINVAL, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG})
"""What the system says of places before the file's beginning, and of names that are files and folders at once, or are
too long."""


def pack_archive(bundle: Path, out: Path) -> Path:
    """Write the bundle in the folder ``bundle``, checked, to the archive ``out``, an earlier one replaced; returns it.

    Equal bundles give equal bytes on every machine: the manifest first, then the other files by name, stored, with one
    time and one mode. A signature that lies beside it goes, unless it is one of these very bytes. Raises
    :class:`BundleError` for a bundle that cannot be opened, and EdgekitError if it is too large for an archive, or
    ``out`` is something else or in the bundle.
    """
    manifest = open_bundle(bundle).manifest
    size = sum(entry.size for entry in manifest.files.values())
    if size > MOST_BYTES - DIRECTORY_BYTES - DOCUMENT_BYTES or len(manifest.files) >= MOST_FILES:
        why = f"It has {size:,} bytes in {len(manifest.files)} files"
        raise EdgekitError(f"too large for an archive: {bundle}. {why}. Hand the folder over.")
    if out.exists() and not _is_archive(out):
        raise EdgekitError(f"output exists: {out}. It is not a bundle's archive. Choose another --out.")
    if out.resolve().is_relative_to(bundle.resolve()):
        raise EdgekitError(f"in the bundle itself: {out}. Nothing else may lie there. Choose another --out.")
    with scratch_directory(out.resolve().parent) as folder:
        new = folder / "archive"
        with open(new, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
                for name in (MANIFEST, *sorted(manifest.files)):
                    _add(archive, name, bundle / name)
            file.flush()
            os.fsync(file.fileno())
        if not out.exists() or describe_file(out) != describe_file(new):
            signature_file(out).unlink(missing_ok=True)  # first: a kill must not leave it beside what it did not sign
        os.replace(new, out)
    return out


def _is_archive(path: Path) -> bool:
    """Whether ``path`` begins as an archive that was packed here, and so may be replaced by one."""
    if not path.is_file():
        return False
    with open_plain(path) as file:
        head = file.read(_HEADER_BYTES + len(_FIRST))
    return head.startswith(b"PK\x03\x04") and head.endswith(_FIRST)


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.create_system, entry.external_attr = 3, _MODE << 16  # Unix, whatever this host is
    entry.file_size = path.stat().st_size
    with open_plain(path) as source, archive.open(entry, "w") as target:
        shutil.copyfileobj(source, target)


@contextmanager
def opened_bundle(source: Path) -> Iterator[Bundle]:
    """The bundle in a folder, or in an archive, which lies unpacked for the length of the block. Checked either way.

    Of an archive only files that its manifest names are written, each up to the size that it names. Raises
    :class:`BundleError` for whatever is not a whole bundle, and for an archive that holds anything else.
    """
    if not source.is_file():
        yield open_bundle(source)
        return
    with scratch_directory() as folder:
        try:
            _unpack(source, folder)
            bundle = replace(open_bundle(folder), archive=source)
        except BundleError as error:
            raise BundleError(str(error).replace(str(folder), str(source)), error.kind) from None
        yield bundle


def _unpack(source: Path, folder: Path) -> None:
    try:
        with open_plain(source) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _END_BYTES - _ZIP64_BYTES))
            if size > MOST_BYTES or not _is_bounded(file.read(_END_BYTES + _ZIP64_BYTES)):
                why = "It is not one that edgekit pack makes"
                raise BundleError(f"not a bundle's archive: {source}. {why}. Check the path.", ErrorKind.WRONG_FORMAT)
            with zipfile.ZipFile(file) as archive:
                _unpack_files(archive, source, folder, size)
    except _UNREADABLE as error:
        raise _damaged(source, [str(error).rstrip(".") or type(error).__name__]) from None
    except OSError as error:
        if error.errno not in _CONTRADICTORY:
            raise
        raise _damaged(source, [error.strerror or type(error).__name__]) from None


def _damaged(source: Path, faults: list[str]) -> BundleError:
    return BundleError(f"damaged archive: {source}. {listed(faults)}. Pack the bundle again: edgekit pack.")


def _is_bounded(tail: bytes) -> bool:
    """Whether an archive ends as ours do: no comment, no ZIP64, and a directory that may be read into memory."""
    end = tail[-_END_BYTES:]
    if len(end) < _END_BYTES or end[:4] != _END or end[-2:] != b"\0\0" or tail[:-_END_BYTES].startswith(_ZIP64):
        return False
    files, directory = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    return files <= MOST_FILES and directory <= DIRECTORY_BYTES


def _unpack_files(archive: zipfile.ZipFile, source: Path, folder: Path, size: int) -> None:
    entries = {entry.filename: entry for entry in archive.infolist()}
    faults = [
        f"{entry.filename!r} stands twice" for entry in archive.infolist() if entries[entry.filename] is not entry
    ]
    faults += [f"{name!r} {fault}" for name, entry in entries.items() if (fault := _fault(entry))]
    if min((entry.header_offset for entry in entries.values()), default=0) > 0:
        faults.append("bytes that are none of its files come before them")
    if sum(entry.file_size for entry in entries.values()) > size:
        faults.append("its files are longer than it")
    if MANIFEST not in entries:
        faults.append(f"it has no {MANIFEST}")
    elif entries[MANIFEST].file_size > DOCUMENT_BYTES:
        faults.append(f"{MANIFEST} has {entries[MANIFEST].file_size:,} bytes")
    if not faults:
        _copy(archive, entries[MANIFEST], folder)
        faults = _unnamed(entries, read_manifest(folder))
    if faults:
        raise _damaged(source, faults)
    for name, entry in entries.items():
        if name != MANIFEST:
            _copy(archive, entry, folder)


def _fault(entry: zipfile.ZipInfo) -> str | None:
    """What keeps an entry from being a file as we pack it."""
    if not entry.filename:
        return "is no name"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG) or entry.is_dir():
        return "is no plain file"
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        return "is compressed"
    return "is encrypted" if entry.flag_bits & 1 else None


def _unnamed(entries: dict[str, zipfile.ZipInfo], manifest: Manifest) -> list[str]:
    """How the archive's files differ from those that its manifest names, by name and size."""
    named = manifest.files
    faults = [f"{name!r} is not in the manifest" for name in entries if name not in named and name != MANIFEST]
    faults += [f"{name!r} is missing" for name in named if name not in entries]
    return faults + [
        f"{name!r} has {entries[name].file_size} bytes instead of {entry.size}"
        for name, entry in named.items()
        if name in entries and entries[name].file_size != entry.size
    ]


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    """Write a file whose name has been found to stay in its folder; no more of it than its entry says."""
    path = folder / entry.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, open(path, "xb") as target:
        shutil.copyfileobj(source, target)
