"""No bundle, run or configuration has a program run: only the user of the very command does, by naming it."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from rehash import hash_again

from edgekit.bundle.manifest import MANIFEST
from edgekit.cli.app import run_command
from edgekit.errors import EdgekitError
from edgekit.tasks import get_task, name_task, task_label

PROGRAM = """
from pathlib import Path
Path(__file__).with_name("ran").write_text("x")
class Task:
    name = "mine"
    def problems(self, split, n, seed): return []
    def grade(self, problem, answer): return False
    def solve(self, problem): return ""
    def parse(self, prompt): return None
TASK = Task()
"""
COMMANDS = [
    ["run", "{bundle}", "3 5 7 -> 22"],
    ["run", "{bundle}", "3 5 7 -> 22", "--cloud", "none", "--json"],
    ["eval", "{bundle}", "--n", "2"],
    ["calibrate", "{bundle}", "--call-fraction", "0.3", "--n", "2"],
    ["verify", "{bundle}"],
    ["verify", "{bundle}", "--json"],
    ["inspect", "{bundle}"],
    ["bench", "{bundle}", "--device", "list"],
]
LABELS = ["{bundle}/evil.py", "{outside}/evil.py", "evil.py", "./evil.py", "../evil.py", "{outside}/evil.py#exact"]


@pytest.fixture
def bundle(tiny_bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with a program in it, and one beside it."""
    folder = Path(shutil.copytree(tiny_bundle_folder, tmp_path / "bundle"))
    for place in (folder, tmp_path):
        (place / "evil.py").write_text(PROGRAM)
    monkeypatch.chdir(folder)
    return folder


def relabel(bundle: Path, label: str) -> None:
    """Name the task, and let every hash be right."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["provenance"]["task"] = label.format(bundle=bundle, outside=bundle.parent)
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    hash_again(bundle)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:1] + command[2:]))
def test_a_bundle_s_task_is_a_label(bundle: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    slow = command[0] in ("run", "verify")  # each starts the artifact's process
    for label in LABELS[::3] if slow else LABELS:
        relabel(bundle, label)
        code = run_command([part.format(bundle=bundle) for part in command])
        assert code in (0, 2), label
        told = capsys.readouterr().err
        assert "Traceback" not in told
        assert not list(bundle.parent.rglob("ran")), (command, label)


def test_a_configuration_s_program_is_run_when_it_is_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = bundle.parent
    (outside / "config.yaml").write_text(f"task: {outside}/evil.py\nsteps: 1\n")
    assert run_command(["train", str(outside / "config.yaml"), "--out", str(outside / "run")]) == 2
    assert "name it yourself" in capsys.readouterr().err
    assert not (outside / "ran").exists()
    with pytest.raises(EdgekitError, match="name it yourself"):
        get_task(f"{outside}/evil.py")
    assert get_task(name_task(f"{outside}/evil.py")).name == "mine"
    assert (outside / "ran").exists()


def test_a_label_holds_no_path_of_this_machine(bundle: Path) -> None:
    label = task_label(str(bundle.parent / "evil.py"))
    assert label.startswith("evil.py#")
    assert str(bundle.parent) not in label
    assert task_label("countdown") == "countdown"


def test_without_a_cloud_no_socket_reaches_out(
    tiny_bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    commands = [
        ["run", str(tiny_bundle_folder), "3 5 7 -> 22", "--cloud", "none"],
        ["verify", str(tiny_bundle_folder)],
        ["eval", str(tiny_bundle_folder), "--task", "countdown", "--n", "3", "--cloud", "none"],
        ["inspect", str(tiny_bundle_folder)],
    ]
    assert [run_command(command) for command in commands] == [0, 0, 0, 0], capsys.readouterr().err
