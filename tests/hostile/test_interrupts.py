"""Ctrl-C: 130 and no traceback from the first import on, and a training that goes on where it led anyway."""

from __future__ import annotations

import functools
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hostile.counting import Count, Survives
from hostile.kill_at import run_until
from hostile.short_runs import begin, go_on, same, weights

from edgekit.cli.app import run_command
from edgekit.folder_lock import PREFIX

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads the names of open files from /proc")
EVENT = 20
"""The file-system event of a short run at which it is interrupted: in the middle of its first checkpoint."""
AT_IMPORTS = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
for number, arguments in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        seen = 0
        def interrupt(event, _):
            global seen
            seen += event == "import"
            if event == "import" and seen == number:
                os.kill(os.getpid(), signal.SIGINT)
        sys.addaudithook(interrupt)
        sys.argv = ["edgekit", *arguments]
        from edgekit.__main__ import main
        main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
LATE = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from edgekit.cli import app
class Cleaned:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
def clean():
    Cleaned()
    time.sleep(60)
def told():
    raise KeyboardInterrupt
app.run_command = {how}
from edgekit.__main__ import main
main()
"""


def run_program(text: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the Python program in ``folder``, with this one's path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", text, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_is_130_without_a_traceback_wherever_a_command_is_as_it_starts(
    tiny_policy_folder: Path, tmp_path: Path, survives: Survives
) -> None:
    policy = str(tiny_policy_folder)
    cases = [
        (25, ["run", policy, "3 5 7 -> 22"]), (60, ["inspect", policy]), (150, ["cache"]), (300, ["doctor"]),
        (600, ["eval", policy, "--n", "2"]), (900, ["export", policy, "--target", "onnx", "--out", "bundle"]),
        (1100, ["train", "quick", "--out", "run"]), (1250, ["chat", policy, "--cloud", "none"]),
        (1300, ["serve", policy, "--port", "0", "--cloud", "none", "--state", "state"]),
        (1350, ["experiment", "--out", "experiment"]),
    ]  # fmt: skip
    ended = run_program(AT_IMPORTS, tmp_path, json.dumps(cases))
    assert ended.stdout.split() == ["130"] * len(cases), (ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.rglob(f"{PREFIX}*"))
    survives.add("interrupt: as a command starts", Count(len(cases)))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["clean", "told"])
def test_ctrl_c_is_130_while_an_object_is_cleaned_up_and_while_another_is_told_of(how: str, tmp_path: Path) -> None:
    ended = run_program(LATE.format(how=how), tmp_path)
    assert (ended.returncode, ended.stderr) == (130, "")


def test_ctrl_c_at_the_prompt_of_a_chat_is_130(
    tiny_policy_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Typing(io.BytesIO):
        def readline(self, *_: object) -> bytes:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Typing()))
    assert run_command(["chat", str(tiny_policy_folder), "--cloud", "none"]) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: interrupted. ")


@pytest.mark.slow
def test_ctrl_c_is_130_in_one_line_and_training_goes_on_to_the_very_weights(tmp_path: Path, survives: Survives) -> None:
    root, output = tmp_path / "root", tmp_path / "output.txt"
    run = root / "run"
    root.mkdir()
    whole = run_until(functools.partial(run_command, begin(tmp_path / "whole")), root)
    assert whole.code == 0, output.read_text()
    ended = run_until(functools.partial(run_command, begin(run)), root, EVENT, by=signal.SIGINT)
    said = output.read_text()
    assert ended.code == 130, f"at {ended.events[-1]}: {said}"
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if line.startswith("error:")] == [said.splitlines()[-1]]
    again = run_until(functools.partial(run_command, go_on(run)), root)
    assert again.code == 0, output.read_text()
    assert same(weights(run / "policy"), weights(tmp_path / "whole" / "policy"))
    assert not list(root.rglob(f"{PREFIX}*"))
    survives.add("interrupt: train", Count(1))
