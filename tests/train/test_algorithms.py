"""Every training algorithm: its advantages worked by hand, its cloud calls, its runs and how they resume."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgekit.cloud.client import Cloud
from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import ConfigError, EdgekitError
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.tasks import get_task
from edgekit.tasks.base import Problem
from edgekit.train.algorithms import ALGORITHMS, Algorithm, algorithm_of, settings_of
from edgekit.train.checkpoint import checkpoint_steps
from edgekit.train.config import TrainConfig, load_config
from edgekit.train.early_marker import teach_early_marker
from edgekit.train.loop import train
from edgekit.train.metrics import StepMetrics
from edgekit.train.plots import write_report
from edgekit.train.reward import Outcome, RewardScale
from edgekit.train.run_directory import read_run_config
from edgekit.train.weights import trained_weights
from edgekit.warm_start.bases import builtin_base

RIGHT, WRONG = Outcome(False, True, True, 5), Outcome(False, False, True, 10)
CALLED, LONG_RIGHT = Outcome(True, False, False, 4), Outcome(False, True, True, 8)
GROUP = [RIGHT, WRONG, CALLED, LONG_RIGHT]
DEVIATION = (0.796875 / 3) ** 0.5 + 1e-4  # of the rewards 1, 0, 0.25, 1
BUDGET = 16
TINY = [
    *("steps=4", "prompts_per_step=6", "group_size=3", "train_pool=24"),
    *("checkpoint_every=2", "eval_every=4", "eval_n=4", "rows_per_forward=8"),
]


def algorithm(name: str, **settings: object) -> Algorithm:
    return algorithm_of(dict(TrainConfig.model_validate({"algorithm": name, **settings})), BUDGET)


def tiny(*overrides: str) -> TrainConfig:
    return load_config("quick", [*TINY, *overrides])


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


# --- advantages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rewards", "advantages"),
    [
        ("gapg", [1, 0, 0.25, 1], [0.4375 / 3, -0.5625 / 3, -0.3125 / 3, 0.4375 / 3]),
        ("collaboration_dr_grpo", [1, 0, 0.25, 1], [0.4375 / 4, -0.5625 / 4, -0.3125 / 4, 0.4375 / 4]),
        (
            "collaboration_grpo",  # also divided by the lengths 5, 10, 4, 8
            [1, 0, 0.25, 1],
            [x / DEVIATION / 4 for x in (0.4375 / 5, -0.5625 / 10, -0.3125 / 4, 0.4375 / 8)],
        ),
        # Rewards' own advantages 0.25, -0.75, 0.25, 0.25 minus 0.5 times the calls' -0.25, -0.25, 0.75, -0.25.
        ("da_grpo", [1, 0, 1, 1], [0.375 / 3, -0.625 / 3, -0.125 / 3, 0.375 / 3]),
        ("task_only", [1, 0, 0, 1], [0.5 / 3, -0.5 / 3, -0.5 / 3, 0.5 / 3]),
    ],
)
def test_rewards_and_advantages_are_the_hand_worked_ones(
    name: str, rewards: list[float], advantages: list[float]
) -> None:
    plan = algorithm(name).plan([GROUP], [True], seed=0)
    torch.testing.assert_close(plan.rewards, torch.tensor([rewards], dtype=torch.float32))
    torch.testing.assert_close(plan.advantages, torch.tensor([advantages]))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_group_of_equal_rewards_teaches_exactly_nothing(name: str) -> None:
    # Three times 0.2 is a sum whose third is not 0.2 in floating point.
    form = {"alpha_f": 0.2} if "alpha_f" in settings_of(name) else {}
    equal = algorithm(name, **form).plan([[WRONG] * 3, [CALLED] * 3], [True, True], seed=0)
    assert equal.advantages.tolist() == [[0.0] * 3] * 2


def test_only_gapg_drops_prompts_and_all_tell_the_kinds_apart() -> None:
    outcomes = [[RIGHT, WRONG], [WRONG, CALLED], [WRONG, WRONG], [WRONG, CALLED]]
    for name in ALGORITHMS:
        cloud = [False, True, False, True]
        budget = {"call_fraction": 0.5} if "call_fraction" in settings_of(name) else {}
        kept = algorithm(name, **budget).plan(outcomes, cloud, seed=0).kept
        assert (kept.d1, kept.d2_candidates) == ((0,), (1, 3)), name
        assert kept.indices == ((0, *kept.d2) if name == "gapg" else (0, 1, 2, 3)), name
        assert len(kept.d2) == (1 if name == "gapg" else 2), name
    whole = algorithm("gapg", prompt_filter=False, estimator="dr_grpo").plan(outcomes, cloud, seed=0)
    other = algorithm("collaboration_dr_grpo").plan(outcomes, cloud, seed=0)
    assert whole.kept == other.kept
    assert torch.equal(whole.advantages, other.advantages)


def test_the_price_of_a_call_follows_the_call_rate_and_never_falls_below_zero() -> None:
    dual = algorithm("da_grpo", call_fraction=0.3, first_call_price=0.02, call_price_rate=0.1)
    prices = [dual.call_price]
    for group in ([CALLED, CALLED], [CALLED, RIGHT], [RIGHT, RIGHT], [RIGHT, WRONG], [WRONG, WRONG], [CALLED, RIGHT]):
        dual.observe([group])
        prices.append(dual.call_price)
    assert prices == pytest.approx([0.02, 0.09, 0.11, 0.08, 0.05, 0.02, 0.04])
    dual.call_price = 0.0
    dual.observe([[RIGHT, RIGHT]])
    assert dual.call_price == 0.0
    fixed = algorithm("gapg")
    fixed.observe([[CALLED, CALLED]])
    assert fixed.call_price == 0.0


# --- early asking -----------------------------------------------------------------------------------


def test_an_earlier_call_pays_more_and_never_as_much_as_a_right_answer() -> None:
    scale = RewardScale(alpha_e=0.5)
    paid = [scale.reward(Outcome(True, False, False, tokens), True, BUDGET) for tokens in (1, 4, 8, 16)]
    assert paid == pytest.approx([0.25 + 0.5 * 15 / 16, 0.625, 0.5, 0.25])
    assert paid[0] < scale.reward(RIGHT, True, BUDGET)
    assert scale.reward(CALLED, False, BUDGET) == 0.0
    plan = algorithm("gapg", alpha_e=0.5).plan([GROUP], [True], seed=0)
    assert plan.rewards[0, 2].item() == pytest.approx(0.25 + 0.5 * 12 / 16)


@pytest.mark.parametrize(
    "settings",
    [
        ["alpha_e=0.75"],
        ["alpha_e=-0.1"],
        ["alpha_e=0.2", "algorithm=da_grpo"],
        ["estimator=grpo", "algorithm=collaboration_grpo"],
        ["prompt_filter=false", "algorithm=task_only"],
        *(
            ["call_fraction=0.2", f"algorithm={name}"]
            for name in ALGORITHMS
            if "call_fraction" not in settings_of(name)
        ),
        ["call_fraction=0.3", "algorithm=task_only"],  # the default: as vain as any other value
        ["call_fraction=0.2", "prompt_filter=false"],
        ["alpha_a=2.0", "algorithm=da_grpo"],
        ["call_price_rate=0.1"],
        ["early_marker_steps=10"],
        ["lora_alpha=8"],
        ["eval_every=5", "eval_n=0"],
        ["instruction=Think."],
        ["instruction=Think.", "base=smollm2"],
        ["warm_start=traces", "base=smollm2", "warm_start_settings={on_grid: {steps: 9}}"],
        ["algorithm=ppo"],
        ["steps=true"],
        ["learning_rate=.inf"],
        ["alpha_e=false"],
    ],
)
def test_settings_that_would_do_nothing_or_harm_are_refused(settings: list[str]) -> None:
    with pytest.raises(ConfigError):
        tiny(*settings)


# --- runs -------------------------------------------------------------------------------------------


class NoCloud:
    """A cloud that must not be asked."""

    name = "none"

    def answer(self, problem: Problem) -> str:
        raise EdgekitError(f"asked about {problem.id}")


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "da_grpo"])
def test_each_algorithm_trains_and_resumes_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    cloud = NoCloud() if name == "task_only" else OracleCloud(get_task("countdown"))

    def snapshot(metrics: StepMetrics) -> None:
        if metrics.step == 3:  # what a process killed now would leave: a checkpoint of step 2, metrics of step 3
            shutil.copytree(whole, killed)

    train(tiny(f"algorithm={name}"), whole, cloud=cloud, on_step=snapshot)
    check_resumed(whole, killed, cloud)
    records = lines(whole)
    assert not any("call_price" in record for record in records)
    assert (sum(record["cloud_calls"] for record in records) == 0) == (name == "task_only")
    assert name == "gapg" or [record["prompts_kept"] for record in records] == [6] * 4
    assert write_report(whole).is_file()


def check_resumed(whole: Path, killed: Path, cloud: Cloud) -> None:
    assert checkpoint_steps(killed / "checkpoints") == [2]
    assert [line["step"] for line in lines(killed)] == [1, 2, 3]
    train(read_run_config(killed), killed, cloud=cloud, resume=True)
    for file in ("metrics.jsonl", "policy/model.safetensors", "checkpoints/step_4/state.json"):
        assert (killed / file).read_bytes() == (whole / file).read_bytes(), file
    records = lines(whole)
    assert any(record["grad_norm"] > 0 for record in records[2:])
    assert all(("tokens_before_call" in record) == (record["call_fraction"] > 0) for record in records)


KILLED = """
import os, signal, sys
from pathlib import Path
from edgekit.cloud.oracle import OracleCloud
from edgekit.tasks import get_task
from edgekit.train.config import load_config
from edgekit.train.loop import train

def die(metrics):
    if metrics.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)

run, *overrides = sys.argv[1:]
train(load_config("quick", overrides), Path(run), cloud=OracleCloud(get_task("countdown")), on_step=die)
"""


@pytest.mark.slow
def test_the_price_of_a_call_survives_a_kill(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = [*TINY, "algorithm=da_grpo", "call_price_rate=0.3", "call_fraction=0.1"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    child = subprocess.run([sys.executable, "-c", KILLED, str(killed), *settings], env=environment, timeout=900)
    assert child.returncode == -signal.SIGKILL
    cloud = OracleCloud(get_task("countdown"))
    train(load_config("quick", settings), whole, cloud=cloud)
    check_resumed(whole, killed, cloud)
    records = lines(killed)
    assert records[0]["call_price"] == 0.5
    for record, after in itertools.pairwise(records):
        moved = max(0.0, record["call_price"] + 0.3 * (record["call_fraction"] - 0.1))
        assert after["call_price"] == pytest.approx(moved)
    assert write_report(whole).is_file()


@pytest.mark.slow
def test_early_exposure_gives_the_marker_a_chance_before_the_attempt_and_is_the_same_each_time(tmp_path: Path) -> None:
    task = get_task("countdown")
    config = tiny("early_marker_share=1", "early_marker_steps=5", "early_marker_learning_rate=4e-3")
    pool = task.problems("train", 200, 0)

    def taught() -> Policy:
        policy = load_policy(builtin_base())
        teach_early_marker(policy, trained_weights(policy.model, config, None), task, pool, config, seed=1)
        return policy

    def at_the_start(policy: Policy) -> float:
        (marker,) = policy.routing.marker.token_ids[0]
        with torch.inference_mode():
            ends = [policy.model(torch.tensor([policy.encode(problem.prompt)]))[0, -1] for problem in pool[:8]]
        return float(torch.stack(ends).softmax(-1)[:, marker].mean())

    policy, again = taught(), taught()
    assert all(torch.equal(a, b) for a, b in zip(policy.model.parameters(), again.model.parameters(), strict=True))
    before = at_the_start(load_policy(builtin_base()))
    assert before < 1e-4
    assert at_the_start(policy) > 100 * before
    cloud = OracleCloud(task)
    for name, exposed in (("with", ["early_marker_share=1", "early_marker_steps=1"]), ("without", [])):
        train(tiny("steps=1", *exposed), tmp_path / name, cloud=cloud)
    assert lines(tmp_path / "with") != lines(tmp_path / "without")
