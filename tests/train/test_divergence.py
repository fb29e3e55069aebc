"""What is wrong with a run's numbers: a step that must not be taken, a gap between two arithmetics, clipping."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch

from edgekit.cloud.oracle import OracleCloud
from edgekit.errors import EdgekitError, NotFinite
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.rollout.sampler import sample_groups
from edgekit.tasks import get_task
from edgekit.train.batches import Sample, samples_of
from edgekit.train.checkpoint import checkpoint_steps
from edgekit.train.config import load_config
from edgekit.train.health import findings_at_end
from edgekit.train.loop import train
from edgekit.train.metrics import StepMetrics, read_metrics
from edgekit.train.plots import write_report
from edgekit.train.run_directory import read_run_config
from edgekit.train.update import PolicyUpdate, UpdateReport
from edgekit.warm_start.bases import builtin_base

TINY = ["steps=5", "prompts_per_step=6", "group_size=3", "train_pool=24", "checkpoint_every=2", "eval_n=0"]
CLOUD = OracleCloud(get_task("countdown"))


@pytest.fixture
def policy() -> Policy:
    return load_policy(builtin_base())


def sampled(policy: Policy, *, bfloat16: bool = False) -> list[Sample]:
    """Groups of responses of ``policy``, each half right and half wrong."""
    prompts = [policy.encode(problem.prompt) for problem in get_task("countdown").problems("train", 8, 0)]
    groups = sample_groups(policy, prompts, 4, temperature=0.9, seed=2, bfloat16=bfloat16)
    return [sample for i, group in enumerate(groups) for sample in samples_of(i, group, [0.5, -0.5, 0.25, -0.25])]


def update(policy: Policy, samples: list[Sample], *settings: str) -> UpdateReport:
    """One step of a copy of ``policy``."""
    config = load_config("quick", ["temperature=0.9", *settings])
    return PolicyUpdate(copy.deepcopy(policy.model), config).apply(samples, 8, 0.0)


# --- numbers that are none --------------------------------------------------------------------------


def test_a_run_that_diverges_stops_before_the_step_keeps_its_checkpoints_and_goes_on_with_a_lower_rate(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"

    def interrupt(metrics: StepMetrics) -> None:
        if metrics.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(load_config("quick", TINY), run, cloud=CLOUD, on_step=interrupt)
    good = {path.name: path.read_bytes() for path in (run / "checkpoints" / "step_2").iterdir()}
    hot = read_run_config(run, ["learning_rate=1e10", "bfloat16=true"])
    expected = rf"training diverged: step 4, .* not finite\. The last good checkpoint is step 2;.*--resume --out {run}"
    for _ in range(2):  # going on as it was ends in the same way, and still loses nothing
        with pytest.raises(EdgekitError, match=expected):
            train(hot, run, cloud=CLOUD, resume=True)
    assert checkpoint_steps(run / "checkpoints") == [2]
    assert {path.name: path.read_bytes() for path in (run / "checkpoints" / "step_2").iterdir()} == good
    assert not (run / "policy").exists()
    train(read_run_config(run, {"learning_rate": 1e-4, "bfloat16": False}), run, cloud=CLOUD, resume=True)
    assert read_run_config(run).learning_rate == 1e-4
    steps = read_metrics(run)
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5]
    assert [step["learning_rate"] for step in steps] == [2e-4, 2e-4, 1e-4, 1e-4, 1e-4]
    assert load_policy(run / "policy").encode("3 5 7 -> 22")


def test_without_a_checkpoint_it_says_so_and_writes_no_weights(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(EdgekitError, match=r"diverged: step 2, .*There is no checkpoint yet"):
        train(load_config("quick", [*TINY, "learning_rate=1e10"]), run, cloud=CLOUD)
    assert not list(run.rglob("*.safetensors"))


def test_weights_that_are_no_numbers_are_never_saved(tmp_path: Path) -> None:
    """A step of a finite gradient that still ends in infinities."""
    run = tmp_path / "run"
    config = load_config("quick", [*TINY, "checkpoint_every=1", "learning_rate=3e38", "grad_clip=null"])
    with pytest.raises(EdgekitError, match=r"diverged: step [12], "):
        train(config.model_copy(update={"learning_rate": math.inf}), run, cloud=CLOUD)
    assert checkpoint_steps(run / "checkpoints") == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_moves_neither_weights_nor_moments(bad: float, policy: Policy) -> None:
    samples = [*sampled(policy), Sample(99, (3, 4), (5, 6), bad)]
    before = [parameter.clone() for parameter in policy.model.parameters()]
    step = PolicyUpdate(policy.model, load_config("quick"))
    with pytest.raises(NotFinite, match=r"the loss is -?(nan|inf)"):
        step.apply(samples, 8, 1e-3)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.model.parameters(), strict=True))
    assert not step.optimizer.state


def test_logits_that_are_no_numbers_are_never_drawn_from(policy: Policy) -> None:
    with torch.no_grad():
        policy.model.lm_head.weight[7] = math.nan
    with pytest.raises(NotFinite, match="logits"):
        sampled(policy)


# --- the gap between two arithmetics ----------------------------------------------------------------


def test_the_gap_is_rounding_in_one_arithmetic_and_wide_between_two(policy: Policy) -> None:
    same = update(policy, sampled(policy)).gap.metrics()
    assert 0 < same["gap_per_token"] <= same["gap_per_sequence"] <= same["gap_largest"] < 1e-3
    other = update(policy, sampled(policy, bfloat16=True)).gap.metrics()
    assert other["gap_per_token"] > 20 * same["gap_per_token"]
    assert other["gap_largest"] > 20 * same["gap_largest"]


def test_responses_whose_log_probabilities_nobody_knows_have_no_gap_and_cannot_be_weighed(policy: Policy) -> None:
    unknown = [Sample(s.group, s.prompt_ids, s.response_ids, s.advantage) for s in sampled(policy)]
    assert update(policy, unknown).gap.metrics() == {}
    with pytest.raises(EdgekitError, match=r"importance_cap: .* not known"):
        update(policy, unknown, "importance_cap=2")


def test_importance_weights_change_a_step_only_where_there_is_a_gap(policy: Policy) -> None:
    reports = [
        update(policy, sampled(policy, bfloat16=b), *s) for b in (False, True) for s in ([], ["importance_cap=2"])
    ]
    same, same_weighed, other, other_weighed = (report.loss for report in reports)
    assert same_weighed == pytest.approx(same, rel=1e-4)
    assert abs(other_weighed - other) > 1e-4 * abs(other)


def test_a_run_records_the_gap_and_what_was_clipped_and_its_report_warns(tmp_path: Path) -> None:
    for name, clip in (("clipped", "1e-3"), ("free", "null")):
        run = tmp_path / name
        train(load_config("quick", [*TINY, "steps=2", f"grad_clip={clip}"]), run, cloud=CLOUD)
        steps = read_metrics(run)
        assert all(0 <= step["gap_per_token"] < 1e-3 for step in steps)
        assert [step["clipped"] for step in steps] == [name == "clipped"] * 2
        assert ("grad_clip clipped 100%" in write_report(run).read_text()) == (name == "clipped")
    assert findings_at_end([{"clipped": i == 0, "grad_norm": 1.0} for i in range(10)], "gapg") == []
    assert len(findings_at_end([{"clipped": i < 2, "grad_norm": 1.0} for i in range(10)], "gapg")) == 1


def test_a_policy_that_a_high_rate_has_wrecked_without_an_infinity_is_told_of(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(load_config("quick", [*TINY, "learning_rate=1e3"]), run, cloud=CLOUD)
    told = [finding.text for finding in findings_at_end(read_metrics(run), "gapg")]
    assert any("nothing was learned in the last 4 steps" in text for text in told)


# --- what a run's settings reach --------------------------------------------------------------------


def test_the_length_of_a_response_reaches_the_policy_and_its_evaluation(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ["steps=1", "eval_every=1", "eval_n=8", "max_new_tokens=5"]
    train(load_config("quick", [*TINY, *settings]), run, cloud=CLOUD)
    assert json.loads((run / "policy" / "routing.json").read_text())["max_new_tokens"] == 5
    (step,) = read_metrics(run)
    assert step["mean_tokens"] == 5
    assert step["eval_local_accuracy"] == 0
