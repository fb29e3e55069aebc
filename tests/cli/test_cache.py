"""``edgekit cache``: what is edgekit's is listed and cleared, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli.app import run_command
from edgekit.folder_lock import lock_folder

OURS = {
    "smollm2-135m-instruct/config.json": "model",
    "gemma3-270m/config.json": "model",
    "smollm2-countdown-0123456789abcdef/routing.json": "warm start",
    "smollm2-arithmetic-0123456789abcdef.unfinished/answers/state.json": "unfinished warm start",
    "logs/edgekit-20260101-000000-1.log": "log",
}
THEIRS = ["photo.jpg", "logs/other.log", "smollm2-countdown-0123456789abcdef-mine/routing.json", "model/config.json",
          "notes-0123456789abcdef/todo.txt", "notes.unfinished/todo.txt"]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    for name in [*OURS, *THEIRS]:
        path = tmp_path / "cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    return tmp_path / "cache"


def json_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    assert run_command([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_cache_is_listed_with_its_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json_of(["cache"], capsys)
    assert told["folder"] == str(folder)
    assert told["mb"] == pytest.approx(0.005)
    assert {entry["kind"] for entry in told["entries"]} == set(OURS.values())
    assert run_command(["cache"]) == 0
    assert "warm start" in capsys.readouterr().out


def test_clearing_takes_what_is_edgekit_s_and_leaves_the_rest(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "routing.json").write_text("{}")
    (folder / "link-0123456789abcdef").symlink_to(elsewhere)
    assert len(json_of(["cache", "--clear"], capsys)["entries"]) == len(OURS)
    assert not any((folder / name).exists() for name in OURS)
    assert all((folder / name).exists() for name in THEIRS)
    assert (elsewhere / "routing.json").exists()
    assert json_of(["cache"], capsys)["entries"] == []


def test_a_warm_start_at_work_is_not_cleared_away(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished = folder / "smollm2-arithmetic-0123456789abcdef.unfinished"
    with lock_folder(unfinished):
        assert run_command(["cache", "--clear"]) == 2
    assert str(unfinished) in capsys.readouterr().err
    assert unfinished.exists()


def test_no_cache_is_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "none"))
    assert json_of(["cache", "--clear"], capsys)["mb"] == 0


def test_a_user_without_a_home_folder_is_told_which_variable_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("EDGEKIT_CACHE", raising=False)
    assert run_command(["cache"]) == 2
    assert "error: no home folder: user" in (said := capsys.readouterr().err)
    assert "Set EDGEKIT_CACHE to a folder." in said
