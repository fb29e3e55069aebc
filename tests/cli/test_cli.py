"""The command line from outside: exit codes, one-line errors, one JSON object on stdout."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edgekit
from edgekit.atomic_write import write_file
from edgekit.cli import showing
from edgekit.cli.app import app, run_command
from edgekit.errors import EdgekitError
from edgekit.train.config import TrainConfig
from edgekit.workflows.source import task_of


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evla"], "No such command 'evla'. Did you mean 'eval'? See edgekit --help."),
        (["eval"], "Missing argument 'source'. See edgekit eval --help."),
        (["eval", "nowhere"], "not a run or bundle: nowhere"),
        (["eval", "nowhere", "--task", "chess"], "unknown task: chess"),
        (["eval", "nowhere", "--cloud", "moon"], "unknown cloud: moon"),
        (["eval", "nowhere", "--n", "0"], "--n"),
        (["train", "--prices", "prices.yaml"], "nothing to pay: cloud oracle"),
        (["train", "no-such-preset"], "unknown preset no-such-preset"),
        (["train", "--resume", "--out", "nowhere"], "not a run: nowhere"),
        (["train", "--set", "steps=0", "--set", "colour=red"], "colour"),
        (["export", "nowhere", "--target", "toaster"], "unknown target: toaster"),
        (["export", "nowhere", "--target", "onnx", "--recipe", "int4"], "int4. Neither a file nor one of onnx_fp32, "),
        (["export", "nowhere", "--target", "onnx", "--recipe", "coreml_int4"], "wrong recipe"),
        (["export", "nowhere", "--target", "onnx"], "not a run or bundle: nowhere"),
        (["export", "nowhere", "--target", "onnx", "--search", "--max-mb", "-1"], "bad budget: -1"),
        (["train", "--out", "/dev/null/run"], "cannot write or read: /dev/null/run"),
        (["verify", "nowhere"], "not a bundle: nowhere"),
        (["export", "nowhere", "--target", "onnx", "--max-mb", "5", "--n", "9"], "without effect: --max-mb, --n. Only"),
        (["verify", "nowhere", "--n", "9"], "without effect: --n. Without --reference"),
        (["verify", "nowhere", "--device-report", "report.json", "--seed", "1"], "without effect: --seed. A phone"),
        (["verify", "nowhere", "--device-report", "r.json", "--task", "countdown"], "without effect: --task. Without"),
        (["bench", "nowhere", "--device", "pixel-9", "--repeats", "9"], "without effect: --repeats. A phone"),
        (["chat", "nowhere", "--cloud", "none", "--task", "countdown"], "without effect: --task. Only the oracle"),
        (["inspect", "nowhere"], "not a bundle: nowhere"),
        (["bench", "nowhere"], "not a bundle: nowhere"),
        (["run", "nowhere", "1 2 -> 3"], "not a run or bundle"),
        (["run", "nowhere", "promts.txt"], "cannot read prompts: promts.txt. There is no such file. Check the path."),
        (["eval", __file__], "It is a file. Give a folder; unpack a packed bundle first."),
        (["serve", "nowhere"], "not a run or bundle"),
        (["serve", "nowhere", "--no-redact", "--region", "DE"], "nothing to redact"),
        (
            ["serve", "nowhere", "--cloud", "none", "--budget", "9/day"],
            "no cloud: nothing can leave. It reads no budget",
        ),
        (["serve", "nowhere", "--cloud", "none", "--region", "DE"], "no cloud: nothing can leave. It reads no region"),
        (
            ["serve", "nowhere", "--consent", "never", "--no-redact"],
            "consent never: nothing can leave. It reads no redact",
        ),
        (["serve", "nowhere", "--consent", "maybe"], "'maybe' is not one of"),
        (["serve", "nowhere", "--host", "0.0.0.0"], "no key: 0.0.0.0 is open to others"),
        (["calibrate", "nowhere", "--call-fraction", "0.3"], "not a run or bundle"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(showing, "EVERY_S", 3600.0)  # however slow the host: how far it is, is no second line
    assert run_command(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_every_fault_of_a_training_config_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["train", "--set", "steps=0", "--set", "colour=red", "--set", "group_size=1"]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in ("steps", "colour", "group_size"))


@pytest.mark.parametrize(
    "verb", sorted(command.name or "" for command in app.registered_commands if not command.hidden)
)
def test_every_command_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([verb, "--help"]) == 0
    assert f"edgekit {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(("old", "new"), [("quantize", "finetune"), ("warm-start", "make-base")])
def test_a_command_s_old_name_still_works_and_help_shows_the_new_one(
    old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["--help"]) == 0
    listed = capsys.readouterr().out
    assert new in listed
    assert f" {old} " not in listed
    assert run_command([old, "--help"]) == 0
    assert f"edgekit {new}" in capsys.readouterr().out


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys; from edgekit.cli.app import run_command; run_command(['--help']); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'onnxruntime', 'coremltools', 'executorch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_doctor_json_is_one_object_that_names_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["target"] for row in report["targets"]] == ["onnx", "executorch", "coreml"]


@pytest.mark.slow
def test_ctrl_c_in_training_exits_130_and_the_run_resumes_to_the_end(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = [f"--set={text}" for text in ("steps=30", "prompts_per_step=4", "eval_n=0", "checkpoint_every=1")]
    command = [sys.executable, "-m", "edgekit", "train", "quick", *settings, "--out", str(run)]
    # A shell's background jobs ignore SIGINT and hand that down; a person at a terminal does not.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    deadline = time.monotonic() + 120
    while not list((run / "checkpoints").glob("*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130, message
    assert "interrupted" in message
    assert not (run / "policy").exists()
    assert run_command(["train", "--resume", "--out", str(run)]) == 0
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 30
    assert (run / "policy" / "model.safetensors").exists()
    assert (run / "report" / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_full_disk_is_one_line_and_leaves_no_half_written_bundle(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    base, out = Path(edgekit.__file__).parent / "policy" / "base", tmp_path / "out" / "bundle"
    arguments = ["export", str(base), "--target", "onnx", "--recipe", "onnx_fp32", "--cases", "1", "--out", str(out)]
    code = f"{limit}import sys; from edgekit.cli.app import run_command; sys.exit(run_command({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "disk full" in done.stderr.splitlines()[-1]
    assert list((tmp_path / "out").iterdir()) == []


def test_the_task_is_the_one_the_run_or_bundle_names(tmp_path: Path, tiny_bundle_folder: Path) -> None:
    (tmp_path / "policy").mkdir()
    write_file(tmp_path / "config.yaml", TrainConfig(task="arithmetic").to_yaml())
    assert task_of(tmp_path, None) == task_of(tmp_path / "policy", None) == "arithmetic"
    assert task_of(tmp_path, "countdown") == "countdown"
    with pytest.raises(EdgekitError, match="task not known: 'tiny'"):
        task_of(tiny_bundle_folder, None)
    assert task_of(tmp_path / "nowhere" / "at" / "all", None) == "countdown"
