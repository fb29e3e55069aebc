"""The audit log: whole lines, its owner's alone, bounded."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgekit.errors import EdgekitError
from edgekit.hybrid.audit import KEPT, AuditLog


def test_entries_come_back_in_order_and_the_file_is_private(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "state" / "audit.jsonl")
    for number in range(5):
        log.append({"number": number, "text": "é\n\x1b[31m"})
    assert [entry["number"] for entry in log.last(3)] == [2, 3, 4]
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert b"\x1b" not in log.path.read_bytes()


def test_many_writers_leave_whole_lines(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: AuditLog(log.path).append({"n": n, "filler": "x" * 500}), range(100)))
    assert sorted(entry["n"] for entry in log.last(1000)) == list(range(100))


def test_a_line_that_the_disk_takes_in_parts_is_written_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write = os.write
    monkeypatch.setattr("edgekit.hybrid.audit.os.write", lambda descriptor, data: write(descriptor, data[:7]))
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append({"event": "sent", "text": "x" * 100})
    assert log.last(1) == [{"event": "sent", "text": "x" * 100}]


def test_a_disk_that_is_full_after_a_part_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    room, write = [5], os.write

    def take(descriptor: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: room.pop()])

    monkeypatch.setattr("edgekit.hybrid.audit.os.write", take)
    with pytest.raises(EdgekitError, match=r"cannot write the audit log: .* No space left on device"):
        AuditLog(tmp_path / "audit.jsonl").append({"event": "sent"})


def test_it_is_rotated_and_never_holds_more_than_its_share(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=1000)
    for number in range(200):
        log.append({"number": number, "filler": "x" * 80})
    files = sorted(path.name for path in tmp_path.glob("audit.jsonl*"))
    assert files == ["audit.jsonl", *(f"audit.jsonl.{n}" for n in range(1, KEPT + 1))]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.glob("audit.jsonl*"))
    assert log.last(1)[0]["number"] == 199


def test_a_line_torn_by_a_crash_costs_only_itself(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append({"n": 1})
    with log.path.open("ab") as file:
        file.write(b'{"n": 2, "te')
    log.append({"n": 3})
    assert [entry["n"] for entry in log.last(10)] == [1, 3]


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(EdgekitError, match="cannot write the audit log"):
        AuditLog(tmp_path / "audit.jsonl").append({})
