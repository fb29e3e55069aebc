"""Experiments: budgets held on validation and nowhere else, runs shared, everything kept when killed."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.cli.app import run_command
from edgekit.cloud.ledger import CloudLedger
from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import ConfigError, EdgekitError
from edgekit.experiment import judge as judging
from edgekit.experiment.candidate import Candidate, Exam
from edgekit.experiment.config import load_experiment_config
from edgekit.experiment.judge import judge
from edgekit.experiment.methods import run_of
from edgekit.experiment.routers.sample_agreement import SAMPLES
from edgekit.experiment.run import open_experiment, read_results, run_experiment
from edgekit.experiment.thresholds import fit_threshold, hands_off, with_forced
from edgekit.policy.checkpoint import load_policy, save_policy
from edgekit.quantize.grid import lies_on_grid
from edgekit.routing.spec import CalibrationFacts
from edgekit.tasks import get_task
from edgekit.train.config import load_config
from edgekit.train.start import starting_policy
from edgekit.warm_start.bases import builtin_base
from edgekit.workflows.experiment import compare_methods

COUNTDOWN = get_task("countdown")
FRACTIONS = (0.2, 0.5)
CHEAP = ("task_only", "naive_offloading", "token_entropy", "gapg", "oracle_router", "cloud_only")
TINY = [
    f"methods=[{', '.join(CHEAP)}]",
    "call_fractions=[0.2, 0.5]",
    "n_validation=40",
    "n_test=20",
    "n_router_train=10",
    "overrides.steps=3",
    "overrides.prompts_per_step=4",
    "overrides.group_size=2",
    "overrides.train_pool=20",
    "overrides.checkpoint_every=1",
    "overrides.eval_n=0",
    "trigger_tries=2",
]

CHILD = """
import os, signal, sys
from pathlib import Path
from edgekit.cloud.ledger import CloudLedger
from edgekit.cloud.oracle import OracleCloud
from edgekit.experiment.routers import ROUTERS
from edgekit.experiment.run import open_experiment, run_experiment
from edgekit.tasks import get_task

out, resume, die_at = Path(sys.argv[1]), sys.argv[2] == "resume", sys.argv[3]

def die(done, total, note):
    if die_at and die_at in note:
        os.kill(os.getpid(), signal.SIGKILL)

config = open_experiment(out, "quick", [] if resume else sys.argv[4:], resume=resume)
run_experiment(config, out, cloud=OracleCloud(get_task("countdown")), on_progress=die)
"""


def child(out: Path, mode: str, die_at: str) -> int:
    command = [sys.executable, "-c", CHILD, str(out), mode, die_at, *TINY]
    return subprocess.run(command, capture_output=True, timeout=300, check=False).returncode


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny experiment, never interrupted."""
    out = tmp_path_factory.mktemp("experiment") / "exp"
    config = open_experiment(out, "quick", TINY, resume=False)
    run_experiment(config, out, cloud=OracleCloud(COUNTDOWN))
    return out


def by_method(out: Path) -> dict[str, dict[str, Any]]:
    return {result["method"]: result for result in read_results(out)}


def files(out: Path) -> dict[str, bytes]:
    paths = [out / "experiment.yaml", *(out / "results").iterdir(), *out.glob("runs/*/metrics.jsonl")]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def candidate(tmp_path: Path, *, n_validation: int = 30, n_test: int = 15, accuracy: float = 1.0) -> Candidate:
    """The built-in policy, untrained."""
    cloud = CloudLedger(OracleCloud(COUNTDOWN, accuracy), COUNTDOWN, tmp_path / "cloud_answers.jsonl")
    draw = COUNTDOWN.problems
    exam = Exam(COUNTDOWN, draw("validation", n_validation, 7), draw("test", n_test, 7), draw("train", 10, 7), cloud)
    return Candidate(builtin_base(), 0, exam, print)


# --- thresholds -------------------------------------------------------------------------------------


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=60), st.integers(0, 20), st.floats(0.01, 0.99))
def test_a_fraction_is_reached_exactly_on_validation_and_only_ties_or_missing_answers_stand_in_the_way(
    finite: list[float], unanswered: int, fraction: float
) -> None:
    scores = with_forced([*finite, *[0.0] * unanswered], [False] * len(finite) + [True] * unanswered, "m")
    called = sum(hands_off(scores, fit_threshold(scores, fraction)))
    wanted = max(round(fraction * len(scores)), unanswered)
    ordered = sorted(finite, reverse=True)
    last = wanted - unanswered  # finite scores that should call
    if 0 < last < len(finite) and ordered[last - 1] - ordered[last] < 1e-9:
        assert unanswered <= called <= wanted
    else:
        assert called == wanted


def test_a_score_no_threshold_can_order_is_refused_and_minus_infinity_never_calls() -> None:
    for bad in (math.nan, math.inf):
        with pytest.raises(EdgekitError, match=r"bad score: .* by prompt_router"):
            with_forced([0.0, bad], [False, False], "prompt_router")
    scores = with_forced([-math.inf, 1.0], [False, False], "m")
    assert hands_off(scores, fit_threshold(scores, 0.5)) == [False, True]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A candidate for tests that leave it as it is: its attempts are made once."""
    return candidate(tmp_path_factory.mktemp("shared"))


@pytest.mark.parametrize("method", ["naive_offloading", "oracle_router", "token_entropy", "sample_agreement", "gapg"])
def test_thresholds_do_not_change_with_the_test_problems(method: str, shared: Candidate) -> None:
    one = shared
    others = COUNTDOWN.problems("test", 9, 99)
    lies = [replace(problem, data={**problem.data, "target": -1}) for problem in one.exam.test]
    thresholds = []
    for test in (one.exam.test, others, lies):
        exam = replace(one.exam, test=test)
        other = Candidate(one.folder, one.seed, exam, print)
        other.__dict__["policy"] = one.policy
        exam.__dict__["cloud_test"] = [True] * len(test)
        thresholds.append([budget["threshold"] for budget in judge(method, other, FRACTIONS).budgets])
    assert thresholds[0] == thresholds[1] == thresholds[2]
    assert all(isinstance(threshold, float) for threshold in thresholds[0])


# --- what a method may do --------------------------------------------------------------------------


def test_an_attempt_without_an_answer_is_a_call_for_every_method_that_has_a_cloud(tmp_path: Path) -> None:
    mute = candidate(tmp_path, n_validation=6, n_test=6)
    mute.policy.routing = mute.policy.routing.model_copy(update={"max_new_tokens": 2})
    for method in ("naive_offloading", "token_entropy", "oracle_router", "gapg"):
        verdict = judge(method, mute, FRACTIONS)
        assert verdict.scores == [math.inf] * 6
        for budget in verdict.budgets:
            assert budget["calls"] == budget["correct"] == [True] * 6
            assert budget["validation_fraction"] == 1.0
    assert judge("token_entropy", mute, FRACTIONS).budgets[0]["device_tokens"] == [2] * 6
    alone = judge("task_only", mute, FRACTIONS).budgets[0]
    assert alone["calls"] == alone["correct"] == [False] * 6


def test_a_cloud_that_errs_is_wrong_on_the_same_problems_for_every_method(tmp_path: Path) -> None:
    one = candidate(tmp_path, accuracy=0.5)
    there, alone = one.exam.cloud_test, one.test.correct
    assert 0 < sum(there) < len(there)
    assert judge("cloud_only", one, FRACTIONS).budgets[0]["correct"] == there
    for method in ("naive_offloading", "oracle_router", "token_entropy"):
        for budget in judge(method, one, FRACTIONS).budgets:
            expected = [c if called else a for called, a, c in zip(budget["calls"], alone, there, strict=True)]
            assert budget["correct"] == expected
    best = max(sum(budget["correct"]) for budget in judge("oracle_router", one, FRACTIONS).budgets)
    assert best > sum(alone)


def test_the_oracle_router_hands_off_wrong_answers_before_right_ones(shared: Candidate) -> None:
    one = shared
    wrong = [not right for right in one.test.correct]
    for budget in judge("oracle_router", one, FRACTIONS).budgets:
        called_right = [c and not w for c, w in zip(budget["calls"], wrong, strict=True)]
        kept_wrong = [w and not c for c, w in zip(budget["calls"], wrong, strict=True)]
        assert not (any(called_right) and any(kept_wrong))


def test_only_methods_that_read_no_answer_save_the_device_its_tokens(shared: Candidate) -> None:
    one = shared
    whole = [len(decision.token_ids) for decision in one.test.decisions]
    assert judge("token_entropy", one, FRACTIONS).budgets[1]["device_tokens"] == whole
    drawn = judge("sample_agreement", one, FRACTIONS).budgets[1]["device_tokens"]
    assert all(tokens >= n + SAMPLES for tokens, n in zip(drawn, whole, strict=True))
    naive = judge("naive_offloading", one, FRACTIONS).budgets[1]
    spent = [0 if called else n for called, n in zip(naive["calls"], whole, strict=True)]
    answered = [not decision.called for decision in one.test.decisions]
    assert [n for n, a in zip(naive["device_tokens"], answered, strict=True) if a] == [
        n for n, a in zip(spent, answered, strict=True) if a
    ]


def test_a_marker_method_is_decoded_with_its_bias_as_a_phone_would(shared: Candidate) -> None:
    one = shared
    verdict = judge("gapg", one, FRACTIONS)
    for budget in verdict.budgets:
        assert budget["calls"] == hands_off(verdict.scores, budget["threshold"])
        for called, tokens, made in zip(budget["calls"], budget["device_tokens"], one.test.decisions, strict=True):
            assert tokens <= len(made.token_ids) if called else tokens == len(made.token_ids)
    assert verdict.natural is not None
    assert verdict.natural["calls"] == hands_off(verdict.scores, 0.0)


# --- whole experiments ------------------------------------------------------------------------------


def test_runs_are_shared_and_every_method_is_held_to_its_budget_on_validation(finished: Path) -> None:
    assert sorted(path.name for path in (finished / "runs").iterdir()) == ["gapg-seed0", "task_only-seed0"]
    assert not list(finished.glob("runs/*/checkpoints"))
    results = by_method(finished)
    assert set(results) == set(CHEAP)
    test = results["gapg"]["test"]
    assert test["ids"] == [problem.id for problem in COUNTDOWN.problems("test", 20, 1000)]
    for method, result in results.items():
        assert result["test"]["ids"] == test["ids"]
        assert [budget["call_fraction"] for budget in result["budgets"]] == [0.2, 0.5]
        assert all(len(budget[key]) == 20 for budget in result["budgets"] for key in ("calls", "correct"))
        if method not in ("task_only", "cloud_only"):
            assert [budget["validation_fraction"] for budget in result["budgets"]] == [0.2, 0.5]
        assert (result["natural"] is not None) == (method == "gapg")
        assert (result["trigger"] is not None) == (method in ("gapg", "token_entropy"))
    assert [made["call_fraction"] for made in results["gapg"]["trigger"]["budgets"]] == [0.2, 0.5]
    assert results["task_only"]["cloud_calls_in_training"] == 0 < results["gapg"]["cloud_calls_in_training"]
    assert results["token_entropy"]["training_prompts"] == 0  # nothing is fitted
    assert (finished / "report" / "index.html").is_file()
    assert (finished / "report" / "report.md").is_file()


def test_a_router_on_gapg_s_policy_is_the_same_router(shared: Candidate) -> None:
    on_gapg, same = (judge(method, shared, FRACTIONS) for method in ("verdict_on_gapg", "own_verdict"))
    assert on_gapg == same
    assert (run_of("verdict_on_gapg"), run_of("own_verdict")) == ("gapg", "task_only")


@pytest.mark.slow
def test_the_warm_start_of_a_grid_is_judged_on_it(tmp_path: Path) -> None:
    few = [setting for setting in TINY if "n_router_train" not in setting and "trigger_tries" not in setting]
    settings = [*few, "methods=[warm_start]", "overrides.quantize=onnx_int4"]
    config = open_experiment(tmp_path / "exp", "quick", settings, resume=False)
    run_experiment(config, tmp_path / "exp", cloud=OracleCloud(COUNTDOWN))
    policy = load_policy(tmp_path / "exp" / "runs" / "warm_start-seed0" / "policy")
    assert policy.grid is not None
    assert lies_on_grid(policy.model, policy.grid.quantize)


@pytest.mark.slow
def test_the_warm_start_is_judged_as_it_is_and_routers_share_gapg_s_run(tmp_path: Path) -> None:
    methods = "methods=[warm_start, gapg, verdict_on_gapg, probe_on_gapg]"
    config = open_experiment(tmp_path / "exp", "quick", [*TINY, methods, "trigger_tries=0"], resume=False)
    run_experiment(config, tmp_path / "exp", cloud=OracleCloud(COUNTDOWN))
    runs = tmp_path / "exp" / "runs"
    assert sorted(path.name for path in runs.iterdir()) == ["gapg-seed0", "warm_start-seed0"]
    start = (runs / "warm_start-seed0" / "policy" / "model.safetensors").read_bytes()
    assert start == (builtin_base() / "model.safetensors").read_bytes()
    assert start != (runs / "gapg-seed0" / "policy" / "model.safetensors").read_bytes()
    results = by_method(tmp_path / "exp")
    assert results["warm_start"]["natural"] is not None
    assert results["warm_start"]["cloud_calls_in_training"] == 0 < results["gapg"]["cloud_calls_in_training"]
    assert results["verdict_on_gapg"]["algorithm"] == results["probe_on_gapg"]["algorithm"] == "gapg"
    assert results["verdict_on_gapg"]["test"]["local_correct"] == results["gapg"]["test"]["local_correct"]


@pytest.mark.slow
def test_an_experiment_killed_while_training_and_while_judging_ends_in_the_same_bytes(
    finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "exp"
    assert child(out, "new", "training gapg seed 0: step 2/3") == -signal.SIGKILL
    assert not (out / "runs" / "gapg-seed0" / "policy").exists()
    assert child(out, "resume", "gapg seed 0: test problems, 50%") == -signal.SIGKILL
    before = {path.name for path in (out / "results").iterdir()}
    assert "task_only-seed0.json" in before
    assert "gapg-seed0.json" not in before
    with (out / "cloud_answers.jsonl").open("a") as file:
        file.write('{"id": "to')  # a line torn by the kill
    assert child(out, "resume", "") == 0
    assert files(out) == files(finished)


def test_methods_and_seeds_may_be_added_and_nothing_else_changed(finished: Path, tmp_path: Path) -> None:
    loaded = load_experiment_config(str(finished / "experiment.yaml"))
    assert open_experiment(finished, "quick", [], resume=True) == loaded
    text = (finished / "experiment.yaml").read_text()
    with pytest.raises(ConfigError, match=r"seeds: can only grow.*n_test: 30, .* has 20"):
        open_experiment(finished, "quick", ["n_test=30", "seeds=[1]"], resume=True)
    assert (finished / "experiment.yaml").read_text() == text
    (tmp_path / "experiment.yaml").write_text(text)
    grown = open_experiment(tmp_path, "quick", ["seeds=[0, 4]"], resume=True)
    assert grown.seeds == (0, 4)
    with pytest.raises(EdgekitError, match="unknown seed: 7"):
        run_experiment(grown, tmp_path, cloud=OracleCloud(COUNTDOWN), seeds=[7])


def test_an_experiment_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("TASK = None")
    with pytest.raises(EdgekitError, match="task not named"):
        compare_methods(_named_by_a_file(tmp_path), tmp_path / "exp")
    with pytest.raises(EdgekitError, match="cloud: none"):
        compare_methods("quick", tmp_path / "exp", settings=["cloud=none"])
    assert not (tmp_path / "exp").exists()


def _named_by_a_file(folder: Path) -> Path:
    """A configuration whose own file, not the command, names a program as its task."""
    file = folder / "own.yaml"
    file.write_text(f"methods: [task_only]\noverrides: {{task: {folder / 'task.py'}}}\n")
    return file


def test_what_is_there_is_never_overwritten_and_what_is_not_there_never_resumed(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match=r"output exists: .* It holds an experiment\. Use --resume"):
        open_experiment(finished, "quick", TINY, resume=False)
    with pytest.raises(EdgekitError, match="not an experiment: "):
        open_experiment(tmp_path, "quick", [], resume=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_exits_130_and_keeps_what_is_done(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "exp"
    real = judging.judge

    def interrupt(method: str, *rest: Any) -> Any:
        if method == "token_entropy":
            raise KeyboardInterrupt
        return real(method, *rest)

    monkeypatch.setattr("edgekit.experiment.run.judge", interrupt)
    sets = [part for setting in TINY[1:] for part in ("--set", setting)]
    sets += ["--set", "methods=[task_only, naive_offloading, token_entropy]"]
    assert run_command(["experiment", "quick", "--out", str(out), "--json", *sets]) == 130
    kept = {path.name for path in (out / "results").iterdir()}
    assert kept == {"task_only-seed0.json", "naive_offloading-seed0.json"}
    assert not list(out.rglob(".*"))
    monkeypatch.setattr("edgekit.experiment.run.judge", real)
    capsys.readouterr()
    assert run_command(["experiment", "--resume", "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in printed["results"]} == {"task_only", "naive_offloading", "token_entropy"}
    for path in (out / "results").iterdir():
        assert path.read_bytes() == (finished / "results" / path.name).read_bytes()


# --- configuration ----------------------------------------------------------------------------------


def test_a_validation_mix_that_is_not_the_test_s_is_remarked(shared: Candidate) -> None:
    easy = [problem for problem in COUNTDOWN.problems("validation", 200, 0) if problem.difficulty == "2"]
    assert "1.00 of the validation" in replace(shared.exam, validation=easy).caution
    table = load_experiment_config("paper_table")
    draw = COUNTDOWN.problems
    exam = replace(
        shared.exam, validation=draw("validation", table.n_validation, 1000), test=draw("test", table.n_test, 1000)
    )
    assert exam.caution == ""


def test_a_policy_s_calibrated_bias_is_forgotten(tmp_path: Path) -> None:
    one = candidate(tmp_path)
    policy = load_policy(one.folder)
    natural = policy.routing
    facts = CalibrationFacts(
        task="countdown",
        split="validation",
        n=500,
        seed=0,
        reached_fraction=0.3,
        interval=(0.26, 0.34),
        marker_bias=5.0,
    )
    fitted = {"marker_bias": 5.0, "calibrated_call_fraction": 0.3, "calibration": facts}
    policy.routing = policy.routing.model_copy(update=fitted)
    save_policy(policy, tmp_path / "biased")
    assert Candidate(tmp_path / "biased", 0, one.exam, print).policy.routing == natural
    config = load_config("quick", [f"base={tmp_path / 'biased'}"])
    assert starting_policy(config, tmp_path / "biased", None).routing == natural
