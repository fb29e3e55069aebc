"""Training runs: configuration, resuming bit for bit after a kill, and what a run directory may hold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import BundleError, ConfigError, EdgekitError
from edgekit.policy.checkpoint import load_policy
from edgekit.tasks import get_task
from edgekit.tasks.base import Problem
from edgekit.train.checkpoint import checkpoint_steps
from edgekit.train.config import TrainConfig, load_config, preset_names
from edgekit.train.loop import train
from edgekit.train.metrics import StepMetrics
from edgekit.train.run_directory import read_run_config
from edgekit.warm_start.bases import builtin_base

TINY = [
    "steps=6",
    "prompts_per_step=6",
    "group_size=3",
    "train_pool=24",
    "checkpoint_every=2",
    "eval_every=3",
    "eval_n=4",
    "rows_per_forward=8",
]

CHILD = """
import os, signal, sys
from pathlib import Path
from edgekit.cloud.oracle import OracleCloud
from edgekit.tasks import get_task
from edgekit.train.config import load_config
from edgekit.train.loop import train

run, resume = Path(sys.argv[1]), sys.argv[2] == "resume"
die_after_step, die_at_answer = int(sys.argv[3]), int(sys.argv[4])

class DyingCloud(OracleCloud):
    answers = 0

    def answer(self, problem):
        self.answers += 1
        if self.answers == die_at_answer:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().answer(problem)

def die(metrics):
    if metrics.step == die_after_step:
        os.kill(os.getpid(), signal.SIGKILL)

train(load_config("quick", sys.argv[5:]), run, cloud=DyingCloud(get_task("countdown")), resume=resume, on_step=die)
"""


def tiny(*overrides: str) -> TrainConfig:
    return load_config("quick", [*TINY, *overrides])


def oracle() -> OracleCloud:
    return OracleCloud(get_task("countdown"))


def child(run: Path, mode: str, *, die_after_step: int = 0, die_at_answer: int = 0) -> subprocess.Popen[str]:
    arguments = [str(run), mode, str(die_after_step), str(die_at_answer), *TINY]
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stderr=subprocess.PIPE, text=True)


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_killed_twice_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = child(whole, "new")
    first = child(killed, "new", die_after_step=3)  # measured, but not in a checkpoint
    assert first.wait(120) == -signal.SIGKILL, first.stderr
    assert checkpoint_steps(killed / "checkpoints") == [2]
    assert not (killed / "policy").exists()
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')  # a line torn by the kill
    (killed / "checkpoints" / ".edgekit-torn").mkdir()
    second = child(killed, "resume", die_at_answer=2)  # in the middle of a step
    assert second.wait(120) == -signal.SIGKILL, second.stderr
    last = child(killed, "resume")
    assert last.wait(120) == 0, last.stderr.read() if last.stderr else ""
    assert uninterrupted.wait(120) == 0
    for name in (
        "metrics.jsonl",
        "config.yaml",
        "policy/model.safetensors",
        "checkpoints/step_6/optimizer.safetensors",
    ):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert [line["step"] for line in lines(killed)] == [1, 2, 3, 4, 5, 6]
    assert any(line["grad_norm"] > 0 for line in lines(killed)[3:])
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == ["step_4", "step_6"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    train(tiny(), run, cloud=oracle())
    return run


def test_metrics_hold_the_budget_and_the_evaluations(finished: Path) -> None:
    records = lines(finished)
    for record in records:
        assert record["d2"] <= 3 * record["d1"] // 7
        assert record["d2"] <= record["d2_candidates"]
        assert record["d1"] + record["d2_candidates"] <= 6
    assert [r["step"] for r in records if "eval_local_accuracy" in r] == [3, 6]
    timings = (finished / "timings.jsonl").read_text().splitlines()
    assert len(timings) == len(records)


def test_training_moves_the_weights_and_leaves_no_bias_in_the_policy(finished: Path) -> None:
    base, trained = load_policy(builtin_base()), load_policy(finished / "policy")
    changed = [not torch.equal(a, b) for a, b in zip(base.model.parameters(), trained.model.parameters(), strict=True)]
    assert all(changed)
    assert trained.routing.marker_bias == 0
    assert trained.encode("3 5 7 -> 22") == base.encode("3 5 7 -> 22")


def test_ctrl_c_leaves_nothing_half_written_and_the_run_goes_on(finished: Path, tmp_path: Path) -> None:
    def interrupt(metrics: StepMetrics) -> None:
        if metrics.step == 3:
            raise KeyboardInterrupt

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), run, cloud=oracle(), on_step=interrupt)
    assert not (run / "policy").exists()
    assert not list(run.rglob(".*"))
    seen: list[int] = []
    train(read_run_config(run), run, cloud=oracle(), resume=True, on_step=lambda metrics: seen.append(metrics.step))
    assert seen == [3, 4, 5, 6]
    assert (run / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_the_cloud_is_asked_once_per_prompt_and_counted(tmp_path: Path) -> None:
    class Counting(OracleCloud):
        def answer(self, problem: Problem) -> str:
            asked.append(problem.id)
            return super().answer(problem)

    asked: list[str] = []
    run = tmp_path / "run"
    train(tiny(), run, cloud=Counting(get_task("countdown")))  # 36 prompts from a pool of 24
    assert len(asked) == len(set(asked)) == sum(line["cloud_calls"] for line in lines(run)) > 0


def test_a_cloud_that_is_always_wrong_teaches_no_asking(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny("steps=2"), run, cloud=OracleCloud(get_task("countdown"), accuracy=0.0))
    assert [(line["d2_candidates"], line["d2"]) for line in lines(run)] == [(0, 0), (0, 0)]
    assert all(line["reward"] == pytest.approx(line["local_accuracy"]) for line in lines(run))


def test_the_learning_rate_warms_up_and_falls_as_configured(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny("steps=4", "learning_rate=1.2e-6", "warmup_steps=2", "schedule=linear"), run, cloud=oracle())
    assert [line["learning_rate"] for line in lines(run)] == pytest.approx([4e-7, 6e-7, 6e-7, 3e-7], rel=1e-6)


def test_a_run_is_never_overwritten(finished: Path, tmp_path: Path) -> None:
    before = (finished / "metrics.jsonl").read_bytes()
    with pytest.raises(EdgekitError, match=r"output exists: .* It holds a run\. Use --resume"):
        train(tiny(), finished, cloud=oracle())
    assert (finished / "metrics.jsonl").read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(EdgekitError, match="It holds something else"):
        train(tiny(), tmp_path, cloud=oracle())


def test_resuming_what_is_no_run_or_another_run_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="not a run: "):
        train(tiny(), tmp_path, cloud=oracle(), resume=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="seed: 5, the run has 0"):
        train(tiny("seed=5"), finished, cloud=oracle(), resume=True)


def test_a_broken_base_leaves_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such file"):
        train(tiny(f"base={tmp_path / 'nothing'}"), tmp_path / "run", cloud=oracle())
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny("steps=2"), run, cloud=oracle())
    (run / "checkpoints" / "step_2" / "weights.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(BundleError, match=r"unreadable checkpoint: .*step_2"):
        train(tiny("steps=2"), run, cloud=oracle(), resume=True)


# --- configuration ----------------------------------------------------------------------------------


def test_every_preset_loads_and_survives_a_round_trip(tmp_path: Path) -> None:
    assert {"default", "quick"} <= set(preset_names())
    for name in preset_names():
        config = load_config(name)
        (tmp_path / "copy.yaml").write_text(config.to_yaml())
        assert load_config(str(tmp_path / "copy.yaml")) == config


def test_overrides_are_read_as_yaml() -> None:
    config = load_config("quick", ["learning_rate=1e-4", "grad_clip=null", "call_fraction=0.2", "cloud=oracle:0.9"])
    assert (config.learning_rate, config.grad_clip, config.call_fraction) == (1e-4, None, 0.2)
    assert config.cloud == "oracle:0.9"


def test_a_bad_config_lists_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("task: chess\nsteps: 0\nlearning_rat: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), ["group_size=1", "nonsense"])
    text = " ".join(caught.value.problems)
    for part in ("steps", "learning_rat", "group_size", "--set nonsense: not key=value"):
        assert part in text
    with pytest.raises(ConfigError, match=r"task: .*unknown task: chess"):
        load_config("quick", ["task=chess"])
    with pytest.raises(ConfigError, match=r"alpha_a > alpha_c.*train_pool: 3 is less than prompts_per_step 16"):
        load_config("quick", ["alpha_c=1.5", "train_pool=3"])


@pytest.mark.parametrize("text", ["a: [", "- 1\n", "just words", "\x00"])
def test_what_is_no_yaml_mapping_is_a_config_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(str(tmp_path / "bad.yaml"))


@pytest.mark.parametrize("key", ["null", "1.5", "2024-01-01", "true", "3"])
def test_a_key_that_is_no_text_is_refused(key: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(f"task: countdown\n{key}: 3\n")
    with pytest.raises(ConfigError, match="a key is a text"):
        load_config(str(tmp_path / "bad.yaml"))


def test_an_unknown_preset_names_the_presets_and_a_missing_file_itself() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset fast: edgekit has default, .*, quick, "):
        load_config("fast")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load_config("nowhere.yaml")


def test_a_relative_base_is_stored_absolute() -> None:
    assert load_config("quick", ["base=./models/mine"]).base == os.path.abspath("models/mine")


def test_a_run_of_a_jsonl_task_is_whole_without_its_file(tmp_path: Path) -> None:
    rows = [{"prompt": f"{a} {b} -> {a + b}", "answer": f"{a} + {b}"} for a in range(1, 12) for b in range(1, 9)]
    task = tmp_path / "sums.jsonl"
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run, moved = tmp_path / "run", tmp_path / "moved"
    tiny = ["steps=1", "prompts_per_step=2", "group_size=2", "train_pool=8", "eval_n=2"]
    train(load_config("quick", [*tiny, f"task={task}#exact"]), run, cloud=OracleCloud(get_task(str(task))))
    assert read_run_config(run).task == f"{task}#exact"
    task.unlink()
    run.rename(moved)
    kept = read_run_config(moved).task
    assert kept == f"{moved}/task/sums.jsonl#exact"
    assert get_task(kept).parse("3 4 -> 7") is not None


def test_a_finished_run_is_lengthened_where_its_schedule_is_constant(tmp_path: Path) -> None:
    tiny = ["prompts_per_step=2", "group_size=2", "train_pool=8", "eval_n=0", "checkpoint_every=1"]
    cloud, run, whole = OracleCloud(get_task("countdown")), tmp_path / "run", tmp_path / "whole"
    train(load_config("quick", [*tiny, "steps=2"]), run, cloud=cloud)
    train(read_run_config(run, ["steps=4"]), run, cloud=cloud, resume=True)
    train(load_config("quick", [*tiny, "steps=4"]), whole, cloud=cloud)
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert (run / "policy" / "model.safetensors").read_bytes() == (whole / "policy" / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="a run is only lengthened"):
        train(read_run_config(run, ["steps=3"]), run, cloud=cloud, resume=True)
    falling = tmp_path / "falling"
    train(load_config("quick", [*tiny, "steps=1", "schedule=linear"]), falling, cloud=cloud)
    with pytest.raises(ConfigError, match="its linear schedule was laid out for 1"):
        train(read_run_config(falling, ["steps=2"]), falling, cloud=cloud, resume=True)
