"""Files and folders appear whole or not at all, are as open as the umask says, and what a kill left is swept away."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit import atomic_write
from edgekit.atomic_write import (
    PREFIX,
    finish_replacement,
    link_or_copy,
    new_directory,
    require_place,
    scratch_directory,
    sweep,
    write_file,
)
from edgekit.errors import EdgekitError
from edgekit.exchange import exchange
from edgekit.folder_lock import claim, lock_folder


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.fixture(params=["exchange", "two steps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A system that can swap two names at once, and one that cannot."""
    if request.param == "two steps":
        monkeypatch.setattr(atomic_write, "exchange", lambda *_: False)
    return str(request.param)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def make(folder: Path, content: str, fail: type[BaseException] | None = None) -> None:
    with new_directory(folder, marker_file="mark") as new:
        (new / "mark").write_text(content)
        (new / "deep" / "er").mkdir(parents=True)
        (new / "deep" / "er" / "file").write_text(content)
        if fail is not None:
            raise fail


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(PREFIX)]


@pytest.mark.usefixtures("umask")
def test_the_umask_is_respected_and_private_files_are_their_owner_s(tmp_path: Path) -> None:
    write_file(tmp_path / "open", "x")
    write_file(tmp_path / "shut", "x", private=True)
    make(tmp_path / "folder", "x")
    assert (mode(tmp_path / "open"), mode(tmp_path / "shut"), mode(tmp_path / "folder")) == (0o640, 0o600, 0o750)
    with new_directory(tmp_path / "cache", marker_file="mark", private=True) as new:
        assert mode(new) == 0o700
    assert mode(tmp_path / "cache") == 0o700
    with scratch_directory() as scratch:
        assert mode(scratch) == 0o700
    assert not scratch.exists()


@pytest.mark.usefixtures("way")
def test_a_replaced_directory_is_the_new_one_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    for content in ("one", "two", "three"):
        make(tmp_path / "folder", content)
        assert (tmp_path / "folder" / "deep" / "er" / "file").read_text() == content
        assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.usefixtures("way")
def test_an_error_or_an_interrupt_leaves_what_was_there(tmp_path: Path) -> None:
    make(tmp_path / "folder", "one")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            make(tmp_path / "folder", "two", fail=error)
        assert (tmp_path / "folder" / "mark").read_text() == "one"
        assert os.listdir(tmp_path) == ["folder"]


def test_what_edgekit_did_not_write_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        with pytest.raises(EdgekitError, match="output exists"):
            make(tmp_path / name, "x")
    assert sorted(os.listdir(tmp_path)) == ["file", "mine"]


def test_a_link_to_a_folder_stays_a_link_to_the_new_one(tmp_path: Path) -> None:
    make(tmp_path / "disk" / "folder", "one")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "folder")
    make(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "folder" / "mark").read_text() == "two"


@pytest.mark.usefixtures("way")
def test_the_workspace_holds_all_that_is_unfinished(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    for content in ("one", "two"):
        with new_directory(tmp_path / "assets" / "b", marker_file="mark", workspace=tmp_path / "project") as new:
            assert new.parent == tmp_path / "project"
            assert hidden(tmp_path / "assets") == [] if (tmp_path / "assets").exists() else True
            (new / "mark").write_text(content)
    assert (tmp_path / "assets" / "b" / "mark").read_text() == "two"
    assert os.listdir(tmp_path / "project") == []


def test_two_steps_are_completed_by_whoever_comes_next(tmp_path: Path) -> None:
    """The names a kill between the two renames leaves: the whole new folder, and the old one."""
    for finish in (lambda: finish_replacement(tmp_path / "folder"), lambda: sweep(tmp_path)):
        make(tmp_path / f"{PREFIX}new-folder", "new")
        make(tmp_path / f"{PREFIX}old-folder", "old")
        finish()
        assert (tmp_path / "folder" / "mark").read_text() == "new"
        sweep(tmp_path)
        assert os.listdir(tmp_path) == ["folder"]
        shutil.rmtree(tmp_path / "folder")


def test_a_whole_folder_whose_place_is_still_taken_is_dropped(tmp_path: Path) -> None:
    make(tmp_path / "folder", "old")
    make(tmp_path / f"{PREFIX}new-folder", "new")
    finish_replacement(tmp_path / "folder")
    assert (tmp_path / "folder" / "mark").read_text() == "old"
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["folder"]


def test_the_sweep_takes_what_is_abandoned_and_nothing_that_lives(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}dead-folder" / "deep").mkdir(parents=True)
    (tmp_path / f"{PREFIX}dead-file").write_text("x")
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").mkdir()
    (tmp_path / ".hidden").write_text("the user's")
    with new_directory(tmp_path / "folder", marker_file="mark") as living:
        write_file(tmp_path / "file", "x")
        assert living.is_dir()
        assert hidden(tmp_path) == [f"{PREFIX}link", living.name] or hidden(tmp_path) == [living.name, f"{PREFIX}link"]
    assert (tmp_path / "precious").is_dir()
    assert (tmp_path / ".hidden").exists()


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    failed = []

    def write(number: int) -> None:
        try:
            for turn in range(15):
                write_file(tmp_path / f"file{number}", f"{number} {turn}")
                write_file(tmp_path / "shared", f"{number}")
                make(tmp_path / "folder", f"{number}")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [(tmp_path / f"file{number}").read_text() for number in range(6)] == [f"{n} 14" for n in range(6)]
    content = (tmp_path / "folder" / "mark").read_text()
    assert (tmp_path / "folder" / "deep" / "er" / "file").read_text() == content
    assert hidden(tmp_path) == []


def test_an_exchange_swaps_two_folders_and_changes_nothing_where_it_cannot(tmp_path: Path) -> None:
    make(tmp_path / "a", "a")
    make(tmp_path / "b", "b")
    swapped = exchange(tmp_path / "a", tmp_path / "b")
    assert swapped == (sys.platform in ("linux", "darwin"))
    assert (tmp_path / "a" / "mark").read_text() == ("b" if swapped else "a")
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "absent")


def test_a_copy_keeps_a_private_file_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "file", "x", private=True)
    link_or_copy(tmp_path / "file", tmp_path / "sub" / "linked")
    assert (tmp_path / "sub" / "linked").samefile(tmp_path / "file")

    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(tmp_path / "file", tmp_path / "copied")
    assert not (tmp_path / "copied").samefile(tmp_path / "file")
    assert mode(tmp_path / "copied") == 0o600


HOLD = """
import sys, pathlib
from edgekit.folder_lock import claim, lock_folder
with lock_folder(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_locked_folder_is_refused_in_one_line_until_its_holder_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(EdgekitError, match="folder in use"), lock_folder(tmp_path):
            pass
        holder.kill()
    with lock_folder(tmp_path), pytest.raises(EdgekitError, match="folder in use"), lock_folder(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_folder_replaced_while_it_is_waited_for_is_locked_anew(tmp_path: Path) -> None:
    make(tmp_path / "folder", "old")
    with lock_folder(tmp_path / "folder"):
        make(tmp_path / "folder", "new")
        with lock_folder(tmp_path / "folder"):  # another folder by now
            assert (tmp_path / "folder" / "mark").read_text() == "new"


def test_a_part_of_a_folder_is_claimed_by_one_and_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}seed2").mkdir()  # what a killed process left
    with claim(tmp_path, "seed0"), claim(tmp_path, "seed1"), claim(tmp_path, "seed2"):
        sweep(tmp_path)
        for part in ("seed0", "seed2"):
            with pytest.raises(EdgekitError, match=f"folder in use.*at {part}"), claim(tmp_path, part):
                pass
    assert os.listdir(tmp_path) == []


def test_only_folders_are_locked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("file", "absent"):
        with pytest.raises(EdgekitError, match="no such folder"), lock_folder(tmp_path / name):
            pass


def test_a_pipe_and_a_folder_are_not_replaced_and_a_place_is_tried_without_a_trace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    before = sorted(os.listdir(tmp_path))
    for name in ("pipe", "link"):
        for refuses in (require_place, lambda path: write_file(path, "new")):
            with pytest.raises(EdgekitError, match=rf"cannot write: .*/{name}\. It is a "):
                refuses(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        require_place(tmp_path / "folder")
    with pytest.raises(NotADirectoryError):
        require_place(tmp_path / "file" / "new" / "file")
    (tmp_path / "stdout").symlink_to("file")
    with pytest.raises(EdgekitError, match=r"stdout\. It is a link"):
        require_place(tmp_path / "stdout")
    (tmp_path / "stdout").unlink()
    for name in ("file", "new", "not/yet/here"):
        require_place(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "file").read_text() == "old"
