"""Where stderr is no terminal, long work prints plain lines; in one, a bar. Never anything on stdout."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable

import pytest

from edgekit.chatter import logged_chatter
from edgekit.cli import showing


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def heard(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Lines come at once; waits until ``words`` were printed and returns all that was."""
    monkeypatch.setattr(showing, "EVERY_S", 0.01)
    printed = ""

    def wait_for(words: str) -> str:
        nonlocal printed
        deadline = time.monotonic() + 60
        while words not in printed:
            assert time.monotonic() < deadline, printed
            time.sleep(0.005)
            printed += capsys.readouterr().err
        return printed

    return wait_for


def test_work_that_says_nothing_is_still_heard_of(heard: Callable[[str], str]) -> None:
    with showing.progress("training"):
        assert heard(" s: at work\n").startswith("training for 0 min ")


def test_each_line_says_how_far_the_work_is(heard: Callable[[str], str]) -> None:
    with showing.progress("training") as update:
        update(3, 10, "reward  0.5")
        heard(" s: 3 of 10 reward 0.5\n")
        update(4, 10)
        heard(" s: 4 of 10\n")
    with showing.stages("exporting") as say:
        say("lowering")
        printed = heard(" s: lowering\n")
    assert all(line.startswith(("training for ", "exporting for ")) for line in printed.splitlines())


def test_the_lines_still_come_while_a_library_s_prints_are_sent_to_the_log(
    heard: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    with showing.stages("exporting") as say, caplog.at_level("DEBUG", "edgekit.chatter"), logged_chatter():
        say("lowering")
        print("a library's own matter")
        assert "own matter" not in heard(" s: lowering\n")
    assert "a library's own matter" in caplog.text


def test_quick_work_and_other_processes_of_a_run_print_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(showing, "EVERY_S", 0.01)
    with showing.progress("training", shown=False) as update:
        update(1, 2)
        time.sleep(0.05)
    monkeypatch.setattr(showing, "EVERY_S", 60.0)
    with showing.progress("training") as update:
        update(1, 2)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_terminal_gets_a_bar_from_the_first_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with showing.progress("training"):
        pass
    assert terminal.getvalue() == ""
    with showing.progress("training") as update:
        update(3, 10, "reward")
    assert "3/10" in terminal.getvalue()
