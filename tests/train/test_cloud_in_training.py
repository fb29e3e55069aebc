"""A real cloud in training: a call that fails loses nothing, and prompts without answers are learned from its own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.app import run_command
from edgekit.cloud.answers import AnswerStore, KeptCloud
from edgekit.cloud.openai_client import CallLimits, OpenAICloud
from edgekit.cloud.request import CloudError, CloudRequest, Usage
from edgekit.errors import EdgekitError, ErrorKind
from edgekit.tasks import get_task
from edgekit.train.checkpoint import checkpoint_steps
from edgekit.train.config import load_config
from edgekit.train.loop import train
from edgekit.workflows import source as opening
from edgekit.workflows.learned import appoint, require_judge_reads, training_bill

TINY = ["steps=4", "prompts_per_step=6", "group_size=3", "train_pool=24", "checkpoint_every=2", "eval_every=4",
        "eval_n=4", "rows_per_forward=8"]  # fmt: skip
COUNTDOWN = get_task("countdown")


class Solver(OpenAICloud):
    """Solves Countdown behind the client's interface; call number ``fails_at`` and those after it fail."""

    def __init__(self, fails_at: int = 10**9) -> None:
        super().__init__("solver", "http://127.0.0.1:9/v1", "k", limits=CallLimits(retries=0, at_once=2))
        self.fails_at, self.calls = fails_at, 0

    def complete(self, request: CloudRequest) -> tuple[str, Usage | None]:
        self.calls += 1
        if self.calls >= self.fails_at:
            raise CloudError("cloud failed: solver. it answered with status 500. Check it.", "network")
        problem = COUNTDOWN.parse(request.messages[-1].content)
        assert problem is not None
        return f"<answer>{COUNTDOWN.solve(problem)}</answer>", Usage(10, 5)


def kept(folder: Path, fails_at: int = 10**9) -> KeptCloud:
    return KeptCloud(Solver(fails_at), AnswerStore(folder / "answers.sqlite"))


def test_a_call_that_fails_stops_the_run_cleanly_and_it_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    config = load_config("quick", TINY)
    train(config, tmp_path / "whole", cloud=kept(tmp_path / "one"))
    calls = [
        json.loads(line)["cloud_calls"] for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    ]
    assert sum(calls[:2]) > 0
    assert calls[2] > 0
    cloud = kept(tmp_path / "two", fails_at=sum(calls[:2]) + 1)
    with pytest.raises(EdgekitError, match=r"training stopped: step 3, .* --resume --out") as stopped:
        train(config, tmp_path / "cut", cloud=cloud)
    assert stopped.value.kind is ErrorKind.OFFLINE
    assert checkpoint_steps(tmp_path / "cut" / "checkpoints") == [2]
    paid = cloud.cloud.calls
    again = kept(tmp_path / "two")
    train(config, tmp_path / "cut", cloud=again, resume=True)
    assert again.cloud.calls + paid - 1 <= sum(calls) + cloud.at_once  # nothing is paid twice
    for name in ("metrics.jsonl", "policy/model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    other = kept(tmp_path / "two")
    train(config, tmp_path / "another", cloud=other)
    assert other.cloud.calls == 0  # another run pays for none of them


def test_between_checkpoints_a_stop_keeps_the_steps_that_were_taken(tmp_path: Path) -> None:
    config = load_config("quick", [*TINY, "checkpoint_every=4"])
    with pytest.raises(EdgekitError, match="training stopped"):
        train(config, tmp_path / "run", cloud=kept(tmp_path, fails_at=8))
    steps = checkpoint_steps(tmp_path / "run" / "checkpoints")
    taken = len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert steps == ([taken] if taken else [])


def prompts_file(folder: Path) -> Path:
    file = folder / "prompts.jsonl"
    splits = {"train": 24, "validation": 6, "test": 8}
    rows = [(p.prompt, split) for split, n in splits.items() for p in COUNTDOWN.problems(split, n, 3)]  # type: ignore[arg-type]
    file.write_text("".join(json.dumps({"prompt": prompt, "split": split}) + "\n" for prompt, split in rows))
    return file


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["agrees", "judge"])
def test_a_run_learns_from_prompts_alone(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    cloud = Solver()
    monkeypatch.setattr("edgekit.cloud.choose.OpenAICloud", lambda *_, **__: cloud)
    monkeypatch.setattr(cloud, "complete", judging(cloud.complete))
    task, run = f"{prompts_file(tmp_path)}#{rule}", str(tmp_path / "run")
    settings = [item for text in [*TINY, f"task={task}", "cloud=openai:solver@http://127.0.0.1:9/v1"]
                for item in ("--set", text)]  # fmt: skip
    assert run_command(["train", "quick", "--out", run, *settings]) == 0
    told = capsys.readouterr().err
    found = re.search(r"will be asked at most (\d+) prompts", told)
    assert found is not None, told
    assert cloud.calls <= int(found[1])  # told before, and kept to
    assert ("verdicts of it as a judge" in told) == (rule == "judge")
    assert run_command(["calibrate", run, "--call-fraction", "0.3", "--n", "6"]) == 0
    before = cloud.calls
    assert run_command(["eval", run, "--n", "8", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["n"] == 8
    assert report["cloud_accuracy"] in (None, 1.0)  # it agrees with itself
    assert 0 < cloud.calls - before <= 8
    assert run_command(["eval", run, "--n", "8", "--json"]) == 0
    assert cloud.calls - before <= 8
    capsys.readouterr()
    assert run_command(["eval", run, "--n", "8", "--cloud", "oracle"]) == 2
    assert "Name a server" in capsys.readouterr().err


def judging(complete: Any) -> Any:
    """The solver, which as a judge takes any two answers for equal if both are written with the same numbers."""

    def both(request: CloudRequest) -> tuple[str, Usage | None]:
        if not request.messages[-1].content.startswith("{"):
            return complete(request)
        shown = json.loads(request.messages[-1].content)
        a, b = (sorted(re.findall(r"\d+", shown[key])) for key in ("answer_a", "answer_b"))
        return f"<answer>{'EQUAL' if a == b else 'B'}</answer>", None

    return both


def test_a_judge_is_measured_on_a_task_with_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    cloud = Solver()
    monkeypatch.setattr("edgekit.cloud.choose.OpenAICloud", lambda *_, **__: cloud)
    monkeypatch.setattr(cloud, "complete", judging(cloud.complete))
    base = str(Path(opening.__file__).parent.parent / "policy" / "base")
    named = ["--cloud", "openai:solver@http://127.0.0.1:9/v1", "--task", "countdown-easy"]
    assert run_command(["eval", base, "--n", "30", *named, "--judge", "--json"]) == 0
    judge = json.loads(capsys.readouterr().out.splitlines()[-1])["judge"]
    assert judge["n"] == 30
    assert judge["agreement"] == pytest.approx(1 - (judge["too_kind"] + judge["too_strict"]) / 30)
    assert judge["interval"][0] <= judge["agreement"] <= judge["interval"][1]
    assert run_command(["eval", base, "--n", "30", *named, "--judge"]) == 0
    assert "the judge agrees with the labels on" in capsys.readouterr().out


def test_the_bill_is_an_upper_bound_of_what_training_asks(tmp_path: Path) -> None:
    config = load_config(
        "quick", [*TINY, f"task={prompts_file(tmp_path)}#judge", "cloud=openai:m@http://127.0.0.1:9/v1"]
    )
    cloud, task = kept(tmp_path), get_task(config.task)
    appoint(task, cloud)
    bill = training_bill(config, task, cloud)
    assert bill is not None
    assert (bill.calls, bill.verdicts) == (24 + 4, 2 * (24 * 3 + 2 * 4))
    assert training_bill(config, COUNTDOWN, cloud).calls == 24  # type: ignore[union-attr]


def test_a_prompt_too_long_for_a_judge_is_refused_before_anything_is_asked_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    cloud = Solver()
    monkeypatch.setattr("edgekit.cloud.choose.OpenAICloud", lambda *_, **__: cloud)
    file, run = prompts_file(tmp_path), tmp_path / "run"
    with file.open("a") as lines:
        lines.write(json.dumps({"id": "long", "prompt": "x" * 16_001, "split": "train"}) + "\n")
    place = "cloud=openai:solver@http://127.0.0.1:9/v1"
    assert run_command(["train", "quick", "--out", str(run), "--set", f"task={file}#judge", "--set", place]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: cannot be judged: problem long. Its question has 16,001 characters")
    assert told.count("\n") == 1
    assert (cloud.calls, run.exists()) == (0, False)
    require_judge_reads(get_task(f"{file}#agrees"))  # nobody judges
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text(json.dumps({"id": "long", "prompt": "x" * 16_001, "answer": "1", "split": "test"}) + "\n")
    base = str(Path(opening.__file__).parent.parent / "policy" / "base")
    assert run_command(["eval", base, "--task", str(labelled), "--judge", "--cloud", place.removeprefix("cloud=")]) == 2
    assert "cannot be judged: problem long" in capsys.readouterr().err
    assert cloud.calls == 0
