"""A disk that is full: one line, exit code 2, what was there is whole, the command goes on once there is room."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys
from pathlib import Path

import pytest
import torch
from hostile.counting import Count, Survives
from hostile.kill_at import run_until
from hostile.short_runs import begin, go_on, same, weights

from edgekit.bundle.load import open_bundle
from edgekit.cli.app import run_command
from edgekit.folder_lock import PREFIX
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.tensor_file import save_tensors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the names of open files from /proc")


class FullDisk:
    """Under ``folder`` every write after the first ``room`` fails where it shall reach the disk: the disk is full."""

    def __init__(self, folder: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.room, self.refused = str(folder), room, 0
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(self.folder):
            self.room -= 1
            if self.room < 0:
                self.refused += 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._fsync(descriptor)


def run_in(room: int, folder: Path, command: list[str]) -> tuple[int, bool]:
    """The exit code of ``command`` where only ``room`` writes under ``folder`` find room, and whether that was felt."""
    with pytest.MonkeyPatch.context() as patch:
        disk = FullDisk(folder, room, patch)
        return run_command(command), disk.refused > 0


def test_tensors_that_find_no_room_are_the_system_s_own_error(tmp_path: Path) -> None:
    def save() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save_tensors({"x": torch.zeros(100_000)}, tmp_path / "root" / "x.safetensors")
        except OSError as error:
            return error.errno or 0
        return 0

    (tmp_path / "root").mkdir()
    assert run_until(save, tmp_path / "root").code == errno.EFBIG


@pytest.mark.slow
def test_training_stops_in_one_line_wherever_the_disk_is_full_and_goes_on(
    tmp_path: Path, survives: Survives, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    start = begin(run)
    assert run_command(start) == 0, capsys.readouterr().err
    learned = weights(run / "policy")
    rooms = (3, 12)
    for room in rooms:
        shutil.rmtree(run)
        code, full = run_in(room, tmp_path, start)
        told = capsys.readouterr().err
        assert code == (2 if full else 0), told
        if full:
            assert told.splitlines()[-1].startswith("error: disk full"), told
            assert run_command(go_on(run) if (run / "config.yaml").exists() else start) == 0, capsys.readouterr().err
        assert same(weights(run / "policy"), learned)
        assert not list(run.rglob(f"{PREFIX}*"))
    survives.add("full disk: train", Count(len(rooms)))


@pytest.mark.slow
def test_a_command_that_finds_no_room_leaves_what_was_there(
    tiny_policy_folder: Path, tiny_bundle_folder: Path, tmp_path: Path, survives: Survives,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bundle, policy = tmp_path / "bundle", tmp_path / "policy"
    shutil.copytree(tiny_bundle_folder, bundle)
    shutil.copytree(tiny_policy_folder, policy)
    commands = [
        ["eval", str(policy), "--task", "countdown", "--n", "4", "--plot", str(tmp_path / "plot.png")],
        ["export", str(policy), "--target", "onnx", "--recipe", "onnx_fp32", "--no-calibrate", "--cases", "2",
         "--task", "countdown", "--out", str(bundle)],
    ]  # fmt: skip
    before = {path: path.read_bytes() for folder in (bundle, policy) for path in sorted(folder.iterdir())}
    for command in commands:
        for room in (0, 1):
            code, full = run_in(room, tmp_path, command)
            told = capsys.readouterr().err
            assert (code, full) == (2, True), told
            assert told.splitlines()[-1].startswith("error: disk full"), told
            found = {path: path.read_bytes() for folder in (bundle, policy) for path in sorted(folder.iterdir())}
            assert found == before
            assert not list(tmp_path.rglob(f"{PREFIX}*"))
    for command in commands:
        assert run_command(command) == 0, capsys.readouterr().err
    assert len(open_bundle(bundle).conformance()) == 2
    load_policy(policy)
    survives.add("full disk: other commands", Count(2 * len(commands)))
