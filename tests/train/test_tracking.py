"""Curves in other programs: what they read back is what metrics.jsonl says, and one that fails costs no training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.app import run_command
from edgekit.errors import EdgekitError
from edgekit.train import tracking
from edgekit.train.config import load_config
from edgekit.train.metrics import StepMetrics, read_metrics
from edgekit.train.trackers import FOLDER, TRACKERS, TrackerName, open_tracker, require_tracker

TINY = ["steps=3", "prompts_per_step=2", "group_size=8", "train_pool=8", "eval_n=4", "eval_every=2"]
SETTINGS = [part for each in TINY for part in ("--set", each)]


NUMBERS: dict[str, Any] = {field.name: 1 for field in fields(StepMetrics) if field.default is MISSING}


def train(out: Path, *more: str) -> int:
    return run_command(["train", "quick", "--out", str(out), *SETTINGS, *more])


def events(run: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard's own reader finds."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reading.EventAccumulator(str(run / FOLDER)).Reload()
    return {tag: {each.step: each.value for each in found.Scalars(tag)} for tag in found.Tags()["scalars"]}


def recorded(run: Path) -> dict[str, dict[int, float]]:
    """The same of metrics.jsonl."""
    found: dict[str, dict[int, float]] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for key, value in record.items():
            if key != "step":
                found.setdefault(key, {})[record["step"]] = pytest.approx(float(value), rel=1e-6)
    return found


@pytest.mark.slow
def test_tensorboard_reads_what_the_run_recorded_and_goes_on_with_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(run, "--track", "tensorboard") == 0
    assert events(run) == recorded(run)
    assert "eval_local_accuracy" in events(run)
    more = ["--resume", "--out", str(run), "--set", "steps=5", "--track", "tensorboard"]
    assert run_command(["train", *more]) == 0
    assert set(events(run)["reward"]) == {1, 2, 3, 4, 5}
    assert events(run) == recorded(run)


def test_steps_that_are_taken_again_are_shown_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = load_config("quick").model_dump()
    for first, value in ((1, 0.0), (3, 1.0)):  # the second goes on after step 2, from its last checkpoint
        tracker = open_tracker("tensorboard", tmp_path, config, first)
        for step in range(first, 5):
            tracker.log(step, {"reward": value})
        tracker.close()
    assert events(tmp_path) == {"reward": {1: 0.0, 2: 0.0, 3: 1.0, 4: 1.0}}


class Failing:
    """A tracker whose ``part`` raises what its library would."""

    def __init__(self, part: str) -> None:
        self.part, self.logged = part, 0

    def open(self, *_: object) -> Failing:
        self._fail_at("open")
        return self

    def log(self, step: int, numbers: object) -> None:
        self.logged += 1
        self._fail_at("log")

    def close(self) -> None:
        self._fail_at("close")

    def _fail_at(self, part: str) -> None:
        if part == self.part:
            raise ConnectionError("the server\nis away")


@pytest.mark.parametrize(("part", "logged"), [("open", 0), ("log", 1), ("close", 3)])
def test_a_tracker_that_fails_is_told_of_once_and_asked_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, logged: int
) -> None:
    failing, told = Failing(part), list[str]()
    monkeypatch.setattr(tracking, "open_tracker", failing.open)
    watched = tracking.Tracking("wandb", tmp_path, load_config("quick"), told.append)
    for step in range(1, 4):
        watched.log(StepMetrics(**NUMBERS | {"step": step}))
    watched.close()
    assert told == ["wandb: the server is away. The run is no longer tracked; training does not need it."]
    assert failing.logged == logged


@pytest.mark.slow
def test_a_training_whose_tracker_fails_is_whole_and_shows_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "open_tracker", Failing("log").open)
    monkeypatch.setattr("edgekit.workflows.train.require_tracker", lambda _: None)
    assert train(tmp_path / "run", "--track", "wandb") == 0
    told = capsys.readouterr().err
    assert told.count("warning: wandb: the server is away.") == 1
    assert len(read_metrics(tmp_path / "run")) == 3
    assert (tmp_path / "run" / "policy" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_library_that_is_missing_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: TrackerName
) -> None:
    monkeypatch.setattr(import_module(TRACKERS[name]), "find_spec", lambda _: None)
    assert train(tmp_path / "run", "--track", name) == 2
    assert f"cannot track: {name}. The {name} library is missing." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_tracker_of_another_name_is_refused() -> None:
    with pytest.raises(EdgekitError, match="Use tensorboard or wandb"):
        require_tracker("mlflow")


OFFLINE = """
import sys
from edgekit.cli.app import run_command
sys.exit(run_command(sys.argv[1:]))
"""
READ = """
import json, sys
from wandb.proto.wandb_internal_pb2 import Record

def records(data):  # LevelDB's log: blocks of 32,768 bytes, of records with checksum, length and part
    place, whole = 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, part = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if part in (1, 4):  # the whole, or its last part
            yield Record.FromString(whole)
            whole = b""

rows = []
for record in records(open(sys.argv[1], "rb").read()):
    if record.WhichOneof("record_type") == "run":
        print(record.run.project, record.run.display_name, record.run.run_id)
    if record.WhichOneof("record_type") == "history":
        items = record.history.item
        rows.append({(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in items})
print(json.dumps(rows))
"""


def python(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.slow
def test_wandb_keeps_offline_what_the_run_recorded_and_sends_nothing(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run, at_home = tmp_path / "run", {"HOME": str(tmp_path), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    command = ["train", "quick", "--out", str(run), *SETTINGS, "--track", "wandb", "--json"]
    done = python(OFFLINE, *command, **at_home)
    assert done.returncode == 0, done.stderr
    assert "warning: wandb" not in done.stderr
    assert json.loads(done.stdout)["learned"] is True  # one JSON object, and nothing of the library's beside it
    (kept,) = (run / FOLDER / "wandb").glob("offline-run-*/*.wandb")
    first, rows = python(READ, str(kept)).stdout.splitlines()
    assert first.split() == ["edgekit", "run", (run / FOLDER / "wandb_run.txt").read_text()]
    found: dict[str, dict[int, Any]] = {}
    for row in json.loads(rows):
        for key, value in row.items():
            if not key.startswith("_"):
                found.setdefault(key, {})[row["_step"]] = value
    assert found == recorded(run)


@pytest.mark.slow
def test_wandb_without_a_login_is_told_before_anything_is_written_and_nobody_is_asked(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    done = python(OFFLINE, "train", "quick", "--out", str(tmp_path / "run"), "--track", "wandb", HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot track: wandb. You are not logged in. Run wandb login")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
