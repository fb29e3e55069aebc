"""What only a run's file names on a network is not contacted: the run may come from anywhere."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
import yaml
from hostile.counting import Count, Survives

from edgekit.cli.app import run_command
from edgekit.cloud.answers import AnswerStore, KeptCloud, answers_file
from edgekit.cloud.openai_client import OpenAICloud
from edgekit.errors import EdgekitError
from edgekit.experiment.config import load_experiment_config
from edgekit.tasks import get_task
from edgekit.workflows.behind import check_named

SERVER = "http://127.0.0.1:9/v1"
CLOUD, ROLLOUTS, TASK = f"openai:m@{SERVER}", f"vllm:m@{SERVER}", "hub:somebody/prompts"
COMMANDS = [
    ["run", "{run}", "3 5 7 -> 22"],
    ["chat", "{run}"],
    ["eval", "{run}", "--n", "2"],
    ["serve", "{run}", "--port", "0"],
]


@pytest.fixture
def run(tiny_policy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run; whatever connects or asks for an address fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEKIT_CLOUD_API_KEY", "secret")
    shutil.copytree(tiny_policy_folder, tmp_path / "run" / "policy")
    return tmp_path / "run"


def says(run: Path, **settings: str) -> None:
    """What the run's file says."""
    (run / "config.yaml").write_text(yaml.safe_dump({"task": "countdown", "steps": 1, **settings}))


def test_a_stranger_s_run_has_nothing_contacted(
    run: Path, tmp_path: Path, survives: Survives, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"cloud": CLOUD, "rollouts": ROLLOUTS, "task": TASK}
    tried = [(command, "cloud") for command in COMMANDS]
    tried += [(["train", "--resume", "--out", "{run}"], setting) for setting in said]
    for command, setting in tried:
        says(run, **{setting: said[setting]})
        assert run_command([part.format(run=run) for part in command]) == 2
        told = capsys.readouterr().err
        assert "not named: " in told, told
        assert f"{setting}={said[setting]}." in told or f"--{setting} {said[setting]}." in told
        assert "secret" not in told
    out = tmp_path / "experiment"
    config = load_experiment_config("quick", [])
    for setting, changed in {
        "cloud": {"cloud": CLOUD},
        "train.task": {"train": config.train | {"task": TASK}},
        "train.rollouts": {"train": config.train | {"rollouts": ROLLOUTS}},
    }.items():
        out.mkdir(exist_ok=True)
        (out / "experiment.yaml").write_text(config.model_copy(update=changed).to_yaml())
        assert run_command(["experiment", "--resume", "--out", str(out)]) == 2
        assert f"--set {setting}=" in capsys.readouterr().err
    survives.add("stranger: what a run names on a network", Count(len(tried) + 3, len(tried) + 3))


def test_what_was_named_or_asked_before_is_no_stranger_s(run: Path) -> None:
    places = {"task": TASK, "cloud": CLOUD, "rollouts": ROLLOUTS}
    store = AnswerStore(answers_file())
    cloud = KeptCloud(OpenAICloud("m", SERVER, "k"), store)
    named = [f"{setting}={place}" for setting, place in places.items()]
    check_named(run, named, places, cloud)
    check_named(run, places, places, cloud)
    check_named(run, [], {"task": "gsm8k", "cloud": "oracle:0.9", "rollouts": "local"}, cloud)
    for at, setting in enumerate(places):
        with pytest.raises(EdgekitError, match=f"{setting} not named"):
            check_named(run, [*named[:at], *named[at + 1 :]], places, cloud)
    store.once(cloud.request_of(get_task("countdown").problems("train", 1, 0)[0]), lambda _: ("3", None))
    check_named(run, [named[0], named[2]], places, cloud)
