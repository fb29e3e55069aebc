"""What nobody foresaw ends in one line that names a log; Ctrl-C ends everything quietly, imports too."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgekit.atomic_write import write_file
from edgekit.cli.app import run_command
from edgekit.workflows import calibrate as calibrate_workflow

CALIBRATE = ["calibrate", "x", "--call-fraction", "0.2"]
AT_IMPORT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(100_000):  # signals arrive between instructions
                pass
sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["edgekit", *{arguments!r}]
from edgekit.__main__ import main
main()
"""


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Calibrating fails in a way nobody foresaw; returns the cache folder."""

    def fail(*_: object, **__: object) -> None:
        logging.getLogger("some.library").warning("this came before")
        warnings.warn("and this", stacklevel=1)
        raise ZeroDivisionError("by nought.\nReally")

    monkeypatch.setattr(calibrate_workflow, "calibrate", fail)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    monkeypatch.delenv("EDGEKIT_LOG", raising=False)
    return tmp_path


def test_the_unforeseen_is_one_line_that_names_the_file_with_its_traceback(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLogger().handlers[:]
    assert run_command(CALIBRATE) == 2
    (file,) = (broken / "logs").glob("*.log")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: unforeseen failure: ZeroDivisionError: by nought. Really. ")
    assert captured.err.count("\n") == 1
    assert str(file) in captured.err
    text = file.read_text()
    assert text.splitlines()[0].endswith("calibrate x --call-fraction 0.2")
    assert "some.library: this came before" in text
    assert "and this" in text
    assert text.rstrip().endswith("ZeroDivisionError: by nought.\nReally")
    assert "in calibrate" in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert logging.getLogger().handlers == before


def a_list_of_no_size_that_exists() -> None:
    torch.empty(2**50)


def a_list_longer_than_torch_counts() -> None:
    torch.empty(2**40, 2**40)


def a_gpu_that_is_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(
    ("work", "where"),
    [
        (a_list_of_no_size_that_exists, "this host"),
        (a_list_longer_than_torch_counts, "this host"),
        (a_gpu_that_is_full, "the GPU"),
    ],
)
def test_too_little_memory_for_torch_is_no_fault_of_ours(
    work: Callable[[], None], where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibrate_workflow, "calibrate", lambda *_, **__: work())
    assert run_command(CALIBRATE) == 2
    assert capsys.readouterr().err.startswith(f"error: out of memory: {where}. ")


def test_a_folder_where_a_file_is_to_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibrate_workflow, "calibrate", lambda *_, **__: write_file(tmp_path, "text"))
    assert run_command(CALIBRATE) == 2
    assert capsys.readouterr().err.startswith(f"error: cannot write or read: {tmp_path}. Is a directory. ")


@pytest.mark.usefixtures("broken")
def test_a_traceback_that_cannot_be_written_is_still_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgekit.cli.command_log.new_log_file", lambda: Path("/dev/null/log"))
    assert run_command(CALIBRATE) == 2
    assert "traceback could not be written" in capsys.readouterr().err


def test_a_log_that_is_asked_for_holds_every_library_s_records(
    broken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEKIT_LOG", str(broken / "mine.log"))
    assert run_command(["cache", "--json"]) == 0
    assert run_command(CALIBRATE) == 2
    assert "this came before" in (broken / "mine.log").read_text()
    assert not (broken / "logs").exists()
    monkeypatch.setenv("EDGEKIT_LOG", str(broken))
    assert run_command(CALIBRATE) == 2
    assert f"error: cannot write the log: {broken}. Is a directory. " in capsys.readouterr().err


def test_what_no_file_can_hold_is_no_second_failure(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*CALIBRATE, "--task", "\udc80\ud800"]) == 2
    assert capsys.readouterr().err.startswith("error: unforeseen failure: ZeroDivisionError")
    assert len(list((broken / "logs").glob("*.log"))) == 1


def test_verbose_says_where_its_log_is(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--verbose", "cache", "--json"]) == 0
    (file,) = (broken / "logs").glob("*.log")
    assert capsys.readouterr().err == f"log: {file}\n"


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("edgekit.cli", ["--help"]),
        ("typer", ["--help"]),
        ("edgekit.workflows.train", ["train", "--out", "run"]),
        ("torch", ["train", "--out", "run"]),
        ("numpy", ["run", "nowhere", "1 2 -> 3"]),
    ],
)
def test_ctrl_c_while_importing_is_130_without_a_traceback(module: str, arguments: list[str], tmp_path: Path) -> None:
    code = AT_IMPORT.format(module=module, arguments=arguments)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_stops_reading_is_no_failure() -> None:
    command = [sys.executable, "-m", "edgekit", "cache", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait()) == ("", 141)


def test_a_job_that_ignores_ctrl_c_goes_on() -> None:
    before = signal.getsignal(signal.SIGINT)
    code = AT_IMPORT.format(module="typer", arguments=["--version"]).replace(
        "signal.default_int_handler", "signal.SIG_IGN"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("edgekit ")
    assert signal.getsignal(signal.SIGINT) is before
