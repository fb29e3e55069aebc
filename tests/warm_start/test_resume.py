"""A warm start that was killed goes on, and ends in the very weights of one that was not."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekit.policy.checkpoint import load_policy, state_tensors
from edgekit.quantize.grid import GridWeights, lies_on_grid
from edgekit.recipes.lookup import find_recipe
from edgekit.tasks.countdown import REASONING
from edgekit.train.config import TrainConfig, load_config
from edgekit.warm_start import supervised
from edgekit.warm_start.bases import builtin_base, run_base
from edgekit.warm_start.traces import OnGrid, TracesSettings, settle_traces
from edgekit.warm_start.work import Work

SETTINGS: dict[str, dict[str, Any]] = {
    "answers": {"batch_size": 4, "answer_steps": 5, "attempts": 8, "marker_steps": 5},
    "attempts": {"attempts": 48, "at_once": 16, "rounds": 1, "batch_size": 4},
    "traces": {"steps": 8, "batch_size": 4},
}


class Killed(BaseException):
    """Stands for the end of the process: nothing that follows it runs."""


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """The built-in policy without its routing data: a model that is taken for a pretrained one."""
    folder = tmp_path / "model"
    shutil.copytree(builtin_base(), folder)
    (folder / "routing.json").unlink()
    (folder / "chat_template.jinja").write_text("Use {{ messages[-1].content }}\n")
    return folder


def start(folder: Path, kind: str) -> TrainConfig:
    return load_config(
        "quick",
        {
            "base": str(folder),
            "warm_start": kind,
            "warm_start_settings": SETTINGS[kind],
            "instruction": "",
            "max_new_tokens": 40,
        },
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return state_tensors(load_policy(folder).model)


def stop_at(call: int) -> Callable[..., None]:
    """A progress that ends the work when it is called for the ``call``-th time."""
    calls = itertools.count(1)

    def stop(*_: object) -> None:
        if next(calls) == call:
            raise Killed

    return stop


@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_a_warm_start_stopped_anywhere_ends_in_the_same_weights(
    kind: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "EVERY", 2)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "whole"))
    whole = run_base(start(model_folder, kind))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "stopped"))
    for at in (3, 4, 3):
        with pytest.raises(Killed):
            run_base(start(model_folder, kind), stop_at(at))
        (unfinished,) = (tmp_path / "stopped").glob("*.unfinished")
        (unfinished / ".edgekit-torn").mkdir()  # what a write that was cut off leaves
    resumed = run_base(start(model_folder, kind))
    assert resumed.name == whole.name
    assert not unfinished.exists()
    made = weights(resumed)
    assert all(torch.equal(tensor, made[name]) for name, tensor in weights(whole).items())


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_resume import start, supervised
from edgekit.warm_start.bases import run_base
supervised.EVERY = 2
def kill(done, total, note=""):
    if "loss" in note and done == 5:
        os.kill(os.getpid(), signal.SIGKILL)
run_base(start(Path(sys.argv[2]), "traces"), kill)
"""


def test_on_a_grid_it_goes_on_as_well_and_ends_as_the_floats_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "EVERY", 2)
    recipe = find_recipe("executorch_int4_decisions", "executorch").quantize
    given = TracesSettings(batch_size=4, on_grid=OnGrid(steps=6))
    made = []
    for stops in (0, 1):
        for _ in range(stops):
            policy = load_policy(builtin_base())
            with pytest.raises(Killed):
                settle_traces(policy, REASONING, given, recipe, work=Work(tmp_path / "work"), on_progress=stop_at(5))
        policy = load_policy(builtin_base())
        before = {name: tensor.clone() for name, tensor in state_tensors(policy.model).items()}
        work = Work(tmp_path / "work") if stops else None
        settle_traces(policy, REASONING, given, recipe, work=work)
        assert not lies_on_grid(policy.model, recipe)
        made.append(state_tensors(policy.model))
        GridWeights(policy.model.requires_grad_(True), recipe)
        assert lies_on_grid(policy.model, recipe)
    assert all(torch.equal(tensor, made[1][name]) for name, tensor in made[0].items())
    assert any(not torch.equal(tensor, made[0][name]) for name, tensor in before.items())


@pytest.mark.slow
def test_a_warm_start_killed_outright_goes_on(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "killed"))
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(model_folder)]
    assert subprocess.run(command, env=dict(os.environ)).returncode == -signal.SIGKILL
    heard: list[int] = []
    resumed = run_base(
        start(model_folder, "traces"), lambda done, _total, note="": heard.append(done) if "loss" in note else None
    )
    assert heard[0] == 5  # the fourth step was kept
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "whole"))
    whole = weights(run_base(start(model_folder, "traces")))
    assert all(torch.equal(tensor, whole[name]) for name, tensor in weights(resumed).items())
