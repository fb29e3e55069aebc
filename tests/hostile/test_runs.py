"""What a run keeps, damaged: checkpoints, metrics, answers, results, reports from phones, budgets, task files."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile.counting import Count, Survives
from hostile.generators import VALUES, damaged, json_variants, line_variants, yaml_variants
from hostile.kill_at import run_until
from safetensors.torch import load_file, save_file

from edgekit.cloud.ledger import CloudLedger
from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import EdgekitError
from edgekit.experiment.report.load import load_experiment
from edgekit.experiment.report.summary import notes
from edgekit.experiment.report.tables import costs, triggers
from edgekit.hybrid.audit import AuditLog
from edgekit.hybrid.budget import Budget, parse_limits
from edgekit.policy.checkpoint import load_policy
from edgekit.tasks import get_task, name_task
from edgekit.tasks.jsonl import read_jsonl
from edgekit.train.checkpoint import checkpoint_steps, load_checkpoint, save_checkpoint
from edgekit.train.config import TrainConfig
from edgekit.train.health import findings_at_end
from edgekit.train.metrics import ALWAYS, StepMetrics, read_metrics, truncate_lines
from edgekit.train.plots import write_report
from edgekit.train.run_directory import RunDirectory, read_run_config
from edgekit.train.task_file import check_task, keep_task
from edgekit.verify.device_report import read_device_report
from edgekit.warm_start.work import STATE, Checkpoints, Work, once
from edgekit.workflows.source import task_of

STEP = {
    "step": 1, "reward": 0.5, "local_accuracy": 0.5, "kept_accuracy": 0.5, "call_fraction": 0.2, "d1": 2, "d2": 1,
    "d2_candidates": 1, "prompts_kept": 3, "mean_tokens": 7.0, "loss": 0.1, "grad_norm": 1.0, "clipped": False,
    "learning_rate": 1e-3, "cloud_calls": 2,
}  # fmt: skip
REPORT = {
    "format": "edgekit-device-report", "version": 1,
    "bundle": {"manifest_sha256": "0" * 64, "target": "onnx", "recipe": "onnx_fp32"},
    "device": {"model": "Pixel 8", "os": "Android 15"}, "app": {"name": "edgekit demo", "version": "1.0"},
    "runtime": {"name": "onnxruntime-android", "version": "1.23.0"}, "matched": 1, "mismatched": 0,
    "cases": [
        {
            "id": "0", "prompt_token_ids": [1, 2], "token_ids": [3], "route": "local", "reason": "answer", "text": "x",
            "answer": "x", "marker_margin": -1.5, "marker_bias": 0.0, "outcome": "MATCH", "prefill_ms": 1.5,
            "decode_ms": 0.0,
        }
    ],
}  # fmt: skip
COUNTDOWN = get_task("countdown")


@pytest.mark.slow
def test_metrics_are_read_or_the_line_is_named(tmp_path: Path, survives: Survives) -> None:
    lines = b"".join(json.dumps(STEP | {"step": n}).encode() + b"\n" for n in range(1, 7))
    path = tmp_path / "metrics.jsonl"

    def attempt(data: bytes) -> None:
        path.write_bytes(data)
        findings_at_end(read_metrics(tmp_path), "gapg")
        truncate_lines(path, 3)

    survives("run: metrics", line_variants(lines, 150), attempt)

    def draw(data: bytes) -> None:
        path.write_bytes(data)
        write_report(tmp_path)

    (tmp_path / "config.yaml").write_text("algorithm: gapg\n")
    optional = [field.name for field in fields(StepMetrics) if field.name not in ALWAYS]
    honest = STEP | dict.fromkeys(optional, 0.5)
    extremes: list[dict[str, Any]] = [dict.fromkeys(honest, value) for value in (9e299, -9e299)]
    variants = [[honest], [*extremes, honest], extremes, []]
    for number in range(6):  # of each step some of what need not be there is gone, and some is something else
        changed = {key: VALUES[(7 * number + at) % len(VALUES)] for at, key in enumerate(optional[number % 2 :: 2])}
        gone = optional[number % 3 :: 3]
        partly = {key: value for key, value in (honest | changed).items() if key not in gone}
        variants.append([honest, partly] if number % 2 else [partly, honest])
    files = [b"".join(json.dumps(step).encode() + b"\n" for step in steps) for steps in variants]
    count = survives("run: metrics drawn", files, draw)
    assert count.refused == 1  # the empty one


def test_answers_of_a_cloud_are_taken_or_asked_for_again(tmp_path: Path, survives: Survives) -> None:
    problems = COUNTDOWN.problems("train", 6, 0)
    honest = CloudLedger(OracleCloud(COUNTDOWN), COUNTDOWN, tmp_path / "honest.jsonl")
    honest.are_right(problems)
    assert stat.S_IMODE((tmp_path / "honest.jsonl").stat().st_mode) == 0o600
    source = (tmp_path / "honest.jsonl").read_bytes()

    def attempt(data: bytes) -> None:
        (tmp_path / "answers.jsonl").write_bytes(data)
        ledger = CloudLedger(OracleCloud(COUNTDOWN), COUNTDOWN, tmp_path / "answers.jsonl")
        assert all(isinstance(right, bool) for right in ledger.are_right(problems))
        assert len(CloudLedger(OracleCloud(COUNTDOWN), COUNTDOWN, tmp_path / "answers.jsonl").are_right(problems)) == 6

    survives("run: the cloud's answers", line_variants(source, 120), attempt)


@pytest.fixture
def checkpointed(tiny_policy_folder: Path, tmp_path: Path) -> Any:
    """A model, its optimizer, and the folder of a checkpoint of both."""
    model = load_policy(tiny_policy_folder).model.requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    save_checkpoint(tmp_path / "checkpoints", 3, model, optimizer, 0.5)
    return model, optimizer, tmp_path / "checkpoints"


@pytest.mark.parametrize("name", ["state.json", "weights.safetensors", "optimizer.safetensors"])
def test_checkpoints_are_restored_or_refused(name: str, checkpointed: Any, survives: Survives) -> None:
    model, optimizer, folder = checkpointed
    path = folder / "step_3" / name
    source = path.read_bytes()
    variants = json_variants(source, 60)
    if name != "state.json":  # the header, or the numbers at the end
        head, tail = source[:3000], source[-3000:]
        variants = (source[:-3000] + damaged(tail, n) if n % 2 else damaged(head, n) + source[3000:] for n in range(40))

    def attempt(data: bytes) -> None:
        path.write_bytes(data)
        assert checkpoint_steps(folder) == [3]
        load_checkpoint(folder, 3, model, optimizer)
        optimizer.step()  # with what was restored

    survives(f"run: checkpoint's {name}", variants, attempt)


def test_a_checkpoint_s_weights_and_moments_are_finite_and_of_the_model_s_shapes(
    checkpointed: Any, survives: Survives
) -> None:
    model, optimizer, folder = checkpointed
    name, parameter = next(iter(model.named_parameters()))
    honest = {each: load_file(folder / "step_3" / f"{each}.safetensors") for each in ("weights", "optimizer")}
    like = parameter.detach()
    bad = [torch.ones(1), like[:1], like * float("nan"), like.int(), like.half(), like.double()]

    def attempt(change: tuple[str, str, Any]) -> None:
        file, key, value = change
        path = folder / "step_3" / f"{file}.safetensors"
        path.unlink()
        if value is None:
            os.mkfifo(path)
        else:
            save_file({**honest[file], key: value.contiguous()}, path)
        before = {each: tensor.clone() for each, tensor in model.state_dict().items()}
        try:
            load_checkpoint(folder, 3, model, optimizer)
        except EdgekitError:
            assert all(torch.equal(tensor, before[each]) for each, tensor in model.state_dict().items())
            raise
        finally:
            path.unlink()
            save_file(honest[file], path)

    places = (("weights", name), ("optimizer", f"{name}:exp_avg"), ("optimizer", f"{name}:exp_avg_sq"))
    changes = [(file, key, value) for file, key in places for value in [*bad, None]]
    steps = [torch.tensor(each) for each in (float("nan"), -5.0, 0.0, 3, True, [3.0], float("inf"))]
    changes += [("optimizer", f"{name}:step", value) for value in steps]
    changes += [("optimizer", f"{name}:exp_avg_sq", -like.abs() - 1), ("optimizer", "another:step", torch.ones(()))]
    changes += [("weights", "another", torch.ones(3)), ("optimizer", f"{name}:another", like)]
    survives("run: a checkpoint of another model", changes, attempt, all_refused=True)
    load_checkpoint(folder, 3, model, optimizer)


@pytest.mark.parametrize(
    "state", ['"step": 2', '"step": 3, "call_price": 1' + "0" * 400, '"step": 3, "call_price": true']
)
def test_a_checkpoint_s_state_is_of_its_step_and_has_a_price(state: str, checkpointed: Any) -> None:
    model, optimizer, folder = checkpointed
    (folder / "step_3" / "state.json").write_text(f'{{"version": 1, {state}}}')
    with pytest.raises(EdgekitError, match="unreadable checkpoint"):
        load_checkpoint(folder, 3, model, optimizer)


def test_what_is_named_almost_as_a_checkpoint_is_none(tmp_path: Path) -> None:
    for name in ("step_4", "step_12", "step_\u00b2", "step_\u0663", "step_007", "step_", "step_0", "step_-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text("{}")
    assert checkpoint_steps(tmp_path) == [4, 12]


def test_unfinished_work_of_a_warm_start_is_gone_on_with_or_refused(checkpointed: Any, survives: Survives) -> None:
    model, optimizer, folder = checkpointed
    kept = Checkpoints(folder.parent / "work" / "phase")
    kept.save(7, model, optimizer)
    names = [STATE, "weights.safetensors", "optimizer.safetensors"]
    honest = {name: (kept.folder / name).read_bytes() for name in names}

    def attempt(case: tuple[str, bytes]) -> None:
        (kept.folder / case[0]).write_bytes(case[1])
        try:
            assert kept.restore(model, optimizer) == 7
        finally:
            (kept.folder / case[0]).write_bytes(honest[case[0]])

    values = [{"done": value} for value in (None, True, -1, 0, "7", [], 7.5)]
    cases = [(STATE, json.dumps(value).encode()) for value in (*values, [], {}, 7)]
    cases += [(name, data) for name in names for data in (b"", honest[name][:-9], b"\0" * 100, honest[name])]
    survives("run: unfinished work of a warm start", cases, attempt)
    (folder.parent / "work" / "right.json").write_text("[tru")
    with pytest.raises(EdgekitError, match="unreadable work"):
        once(Work(folder.parent / "work"), "right", list)


def test_a_run_s_configuration_is_used_or_refused(tmp_path: Path, survives: Survives) -> None:
    from edgekit.train.config import load_config

    source = load_config("quick").to_yaml().encode()

    def attempt(data: bytes) -> None:
        (tmp_path / "config.yaml").write_bytes(data)
        read_run_config(tmp_path)
        task_of(tmp_path, None)

    survives("run: config.yaml", yaml_variants(source, 60, seed=700), attempt)


def test_results_of_an_experiment_are_reported_or_refused(tmp_path: Path, survives: Survives) -> None:
    flags = [True, False, True]
    budget = {"call_fraction": 0.3, "calls": flags, "correct": flags, "device_tokens": [3, 4, 5]}
    result = {
        "method": "gapg", "seed": 0, "algorithm": "gapg", "task": "countdown", "n_validation": 3, "n_test": 3,
        "cloud_calls_in_training": 2, "training_prompts": 4, "budgets": [budget], "natural": budget, "notes": "",
        "test": {
            "ids": ["a", "b", "c"], "difficulty": ["1", "2", "2"], "local_correct": flags, "cloud_correct": flags,
            "scores": [0.1, None, 0.3],
        },
        "trigger": {"text": "now", "tries": 2, "budgets": [
            {"call_fraction": 0.3, "calls_before": 0.3, "calls_after": 0.9, "honest_before": 0.7, "honest_after": 0.6}
        ]},
    }  # fmt: skip
    (tmp_path / "results").mkdir()

    def attempt(data: bytes) -> None:
        (tmp_path / "results" / "gapg-seed0.json").write_bytes(data)
        experiment = load_experiment(tmp_path)
        assert triggers(experiment, 0.3) is None or experiment.any_result.trigger is not None
        costs(experiment)
        notes(experiment)

    survives("run: results", json_variants(json.dumps(result).encode(), 200), attempt)
    for name in ("gapg-seed0", "gapg-seed0-copy"):
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps(result))
    with pytest.raises(EdgekitError, match="two results: gapg seed 0"):
        load_experiment(tmp_path)


def test_a_phone_s_report_is_read_or_refused(tmp_path: Path, survives: Survives) -> None:
    text = json.dumps(REPORT).encode()
    (tmp_path / "report.json").write_bytes(text)
    assert read_device_report(tmp_path / "report.json").matched == 1

    def attempt(data: bytes) -> None:
        (tmp_path / "report.json").write_bytes(data)
        read_device_report(tmp_path / "report.json")

    survives("run: a phone's report", json_variants(text, 100), attempt)


def test_a_task_s_problems_are_read_or_the_line_is_named(tmp_path: Path, survives: Survives) -> None:
    lines = b"".join(json.dumps({"prompt": f"{n} + 1 =", "answer": str(n + 1)}).encode() + b"\n" for n in range(8))

    def attempt(data: bytes) -> None:
        (tmp_path / "task.jsonl").write_bytes(data)
        read_jsonl(tmp_path / "task.jsonl", "number")

    survives("run: a task's problems", line_variants(lines, 100), attempt)


def test_a_budget_and_a_log_that_are_damaged_are_told(tmp_path: Path, survives: Survives) -> None:
    Budget(tmp_path / "honest.sqlite", parse_limits(["9/total"])).reserve("x")
    source = (tmp_path / "honest.sqlite").read_bytes()

    def spend(number: int) -> None:
        (tmp_path / "budget.sqlite").write_bytes(damaged(source[:600], number) + source[600:])
        budget = Budget(tmp_path / "budget.sqlite", parse_limits(["9/total"]))
        budget.reserve("x")
        budget.left()

    def log(number: int) -> None:
        (tmp_path / "audit.jsonl").write_bytes(damaged(b'{"a": 1}\n{"b": 2}\n', number))
        audit = AuditLog(tmp_path / "audit.jsonl")
        audit.append({"c": "\ud800\x1b"})
        assert audit.last(1) == [{"c": "\ud800\x1b"}]

    survives("run: budget", range(40), spend)
    survives("run: log of what was sent", range(40), log)


def test_a_run_goes_on_with_no_other_file_of_its_task_s_name(tmp_path: Path) -> None:
    task = tmp_path / "mine.jsonl"
    task.write_text('{"prompt": "1 + 1 =", "answer": "2"}\n')
    name = name_task(f"{task}#number")
    run = tmp_path / "run"
    run.mkdir()
    keep_task(run, name)
    (run / "config.yaml").write_text(f"task: {name}\n")
    check_task(run, name)
    assert task_of(run, None) == name
    task.write_text('{"prompt": "1 + 1 =", "answer": "3"}\n')
    for look in (lambda: check_task(run, name), lambda: task_of(run, None)):
        with pytest.raises(EdgekitError, match="another task"):
            look()
    assert task_of(run, str(task)) == str(task)  # who names it means it
    keep_task(run / "none", "countdown")
    assert not (run / "none").exists()
    shutil.rmtree(run)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of open files from /proc")
def test_a_run_that_is_killed_while_it_begins_begins_again_or_goes_on(tmp_path: Path, survives: Survives) -> None:
    task, run = tmp_path / "mine.jsonl", tmp_path / "root" / "run"
    task.write_text('{"prompt": "1 + 1 =", "answer": "2"}\n')
    config = TrainConfig(task=f"{task}#number")
    run.parent.mkdir()

    def start() -> int:
        with ExitStack() as held:
            directory = RunDirectory(run)
            directory.start(config, 1, held, resume=(run / "config.yaml").is_file())
            directory.begin(config, None)
        return 0

    whole = run_until(start, run.parent)
    assert whole.code == 0, (tmp_path / "output.txt").read_text()
    expected = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert len(expected) == 3
    for last in range(1, len(whole.events) + 1):
        shutil.rmtree(run, ignore_errors=True)
        assert run_until(start, run.parent, last).killed
        start()
        assert {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()} == expected
    survives.add("kill: a run that begins", Count(len(whole.events)))
