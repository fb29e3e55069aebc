"""The numbers of an evaluation, against values worked by hand."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import BadLogits
from edgekit.evaluate.answers import PolicyDecider, StepDecider, decide_both, evaluate
from edgekit.evaluate.bounds import oracle_accuracy, random_accuracy
from edgekit.evaluate.metrics import check_calibration, expected_cloud, summarize
from edgekit.evaluate.plots import accuracy_curve
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.reference import ReferenceModel
from edgekit.routing.decision_rule import SOLO
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import CalibrationFacts, Marker, RoutingSpec
from edgekit.tasks import get_task
from edgekit.tasks.base import Problem

SPEC = RoutingSpec(marker=Marker(text="<m>", token_ids=((9,), (7, 8))), stop_token_ids=(1,), max_new_tokens=8)


def kept(*ids: int, answer: str = "x") -> Decision:
    return Decision("local", "answer", "", answer, ids, -3.0)


def called(*ids: int) -> Decision:
    return Decision("cloud", "marker", "", None, ids, 2.0)


def test_the_report_of_five_prompts_by_hand() -> None:
    none = Decision("cloud", "no_answer", "", None, (2, 3, 4), -1.0)
    decisions = [kept(2, 3), kept(2, 3), called(2, 9), called(2, 2, 2, 7, 8), none]
    report = summarize(decisions, [True, False, True, False, False], [None, None, True, True, False], SPEC, 0.5)
    assert report.n == 5
    assert report.local_accuracy == pytest.approx(2 / 5)
    assert report.kept_accuracy == pytest.approx(1 / 2)
    assert report.call_fraction == pytest.approx(3 / 5)
    assert report.cloud_accuracy == pytest.approx(2 / 3)
    assert report.overall_accuracy == pytest.approx(3 / 5)
    assert report.random_overall_accuracy == pytest.approx(0.4 * 0.4 + 0.6 * 2 / 3)
    # Of the five, only the cloud is right on 2/3 (not asked) + 1 (asked), only the device on 1/3: 3 calls gain 5/3.
    assert report.oracle_overall_accuracy == pytest.approx(0.4 + (2 / 3 + 1) / 5)
    assert (report.rescued, report.harmed) == (1, 0)
    assert report.mean_generated_tokens == pytest.approx((2 + 2 + 2 + 5 + 3) / 5)
    assert report.mean_tokens_before_call == pytest.approx((1 + 3 + 3) / 3)
    assert report.no_answer_fraction == pytest.approx(1 / 5)


def test_routers_at_the_ends() -> None:
    assert oracle_accuracy(0.7, 0.3, 0.0, 0.3) == pytest.approx(1.0)
    assert oracle_accuracy(0.7, 0.3, 0.0, 0.5) == pytest.approx(1.0)
    # Independent errors of a device at .7 and a cloud at .8: a fifth of the calls all find a wrong local answer.
    assert oracle_accuracy(0.7, 0.3 * 0.8, 0.7 * 0.2, 0.2) == pytest.approx(0.9)
    assert oracle_accuracy(0.7, 0.3 * 0.8, 0.7 * 0.2, 1.0) == pytest.approx(0.8)
    assert random_accuracy(0.7, 1.0, 0.3) == pytest.approx(0.79)
    nothing_called = summarize([kept(2)], [True], [False], SPEC, 0.0)
    assert nothing_called.oracle_overall_accuracy == nothing_called.random_overall_accuracy == 1.0
    assert nothing_called.cloud_accuracy is None
    assert nothing_called.mean_tokens_before_call is None


outcomes = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=9)


@given(outcomes)
def test_no_router_that_calls_as_often_answers_more(outcomes: list[tuple[bool, bool, bool]]) -> None:
    """The oracle against every choice of as many prompts: (device right, cloud right, called)."""
    local, cloud, calls = zip(*outcomes, strict=True)
    decisions = [called(9) if away else kept(2) for away in calls]
    report = summarize(decisions, local, cloud, SPEC, 0.0)
    n, k = len(outcomes), sum(calls)
    choices = [sum(cloud[i] if i in chosen else local[i] for i in range(n)) / n for chosen in combinations(range(n), k)]
    assert report.oracle_overall_accuracy == pytest.approx(max(choices))
    assert report.random_overall_accuracy == pytest.approx(sum(choices) / len(choices))
    assert report.overall_accuracy <= report.oracle_overall_accuracy + 1e-9
    assert report.rescued == sum(away and there and not here for here, there, away in outcomes)
    assert report.harmed == sum(away and here and not there for here, there, away in outcomes)


def test_a_cloud_that_was_not_asked_is_taken_to_be_as_good_as_where_it_was() -> None:
    assert expected_cloud([None, True, True, False, None]) == pytest.approx([2 / 3, 1, 1, 0, 2 / 3])
    assert expected_cloud([None, None]) == [0.0, 0.0]


def test_how_far_a_calibration_holds_is_told() -> None:
    facts = CalibrationFacts(
        task="easy", split="validation", n=500, seed=0, reached_fraction=0.3, interval=(0.26, 0.34), marker_bias=1.0
    )
    routing = SPEC.model_copy(update={"calibrated_call_fraction": 0.3, "calibration": facts})
    near, far = check_calibration(routing, 310, 1000), check_calibration(routing, 600, 1000)
    assert near.holds
    assert near.difference == pytest.approx(0.01)
    assert not far.holds
    assert 0.2 < far.interval[0] < 0.3 < far.interval[1]
    assert far.facts["task"] == "easy"
    assert "on 500 validation problems of easy" in far.sentence(0.6)
    assert "does not hold" in far.sentence(0.6)
    assert check_calibration(SPEC, 3, 10) is None
    old = check_calibration(SPEC.model_copy(update={"calibrated_call_fraction": 0.3}), 6, 10)
    assert (old.facts, old.holds) == (None, None)
    assert old.difference == pytest.approx(0.3)


class Exam:
    """Right is whatever the tiny policy's solo text makes of it: every answer None, so nothing local is right."""

    name = "exam"

    def grade(self, problem: object, answer: str | None) -> bool:
        return answer == "right"


class Cloud:
    name = "right"

    def __init__(self) -> None:
        self.asked = 0

    def answer(self, problem: object) -> str:
        self.asked += 1
        return "right"


def test_a_policy_is_evaluated_with_one_cloud_call_per_hand_off(tiny_policy_folder, tiny_prompts) -> None:
    problems = [Problem(str(i), prompt, "tiny") for i, prompt in enumerate(tiny_prompts)]
    cloud = Cloud()
    source = PolicyDecider(load_policy(tiny_policy_folder), batch_size=16)
    report = evaluate(source, Exam(), problems, cloud).report
    assert report.call_fraction == pytest.approx(0.4)
    assert cloud.asked == 16
    assert report.overall_accuracy == pytest.approx(0.4)
    assert (report.rescued, report.harmed) == (16, 0)
    assert evaluate(source, Exam(), problems, None).report.overall_accuracy == 0.0


@pytest.mark.parametrize("kind", ["policy", "steps"])
def test_a_prompt_that_is_too_long_goes_to_the_cloud_whatever_the_bias(kind: str, tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder)
    source = PolicyDecider(policy)
    if kind == "steps":
        source = StepDecider(ReferenceModel(policy.model), policy.routing, policy.vocabulary, policy.encode)
    prompts = ["1 2 -> 3", "1 " * 100, "4 5 -> 9"]
    first, long, second = source.decide(prompts, SOLO)
    assert (long.route, long.reason, long.token_ids) == ("cloud", "too_long", ())
    assert [first, second] == source.decide(prompts[::2], SOLO)
    problems = [Problem(str(i), prompt, "tiny") for i, prompt in enumerate(prompts)]
    bias = policy.routing.model_copy(update={"marker_bias": -100.0})
    report = evaluate(source, Exam(), problems, Cloud(), routing=bias).report
    assert (report.too_long, report.call_fraction) == (1, pytest.approx(1 / 3))


def test_a_prompt_on_which_the_device_fails_is_handed_over_unless_it_fails_on_all(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder)
    prompts = ["1 2 -> 3", "4 5 -> 9", "2 6 -> 12"]
    problems = [Problem(str(i), prompt, "tiny") for i, prompt in enumerate(prompts)]
    bad = policy.encode(prompts[1])

    class Failing(ReferenceModel):
        def prefill(self, token_ids: Any) -> Any:
            logits = super().prefill(token_ids)
            return logits * np.nan if list(token_ids) == bad else logits

    def source(**how: bool) -> StepDecider:
        return StepDecider(Failing(policy.model), policy.routing, policy.vocabulary, policy.encode, **how)

    with pytest.raises(BadLogits):
        source().decide(prompts)
    first, failed, third = source(hand_over_failures=True).decide(prompts, SOLO)
    assert (failed.route, failed.reason, failed.token_ids) == ("cloud", "device_failed", ())
    assert [first, third] == source().decide(prompts[::2], SOLO)
    report = evaluate(source(hand_over_failures=True), Exam(), problems, Cloud()).report
    assert report.device_failed == 1
    with pytest.raises(BadLogits):
        source(hand_over_failures=True).decide(prompts[1:2])


def test_solo_paths_never_call_and_share_the_text_before_the_call(tiny_policy_folder, tiny_prompts) -> None:
    source = PolicyDecider(load_policy(tiny_policy_folder))
    natural, alone = decide_both(source, tiny_prompts)
    assert natural == source.decide(tiny_prompts)
    for before, solo in zip(natural, alone, strict=True):
        assert solo.reason != "marker"
        shared = before.token_ids[:-1] if before.reason == "marker" else before.token_ids
        assert solo.token_ids[: len(shared)] == shared


def test_the_curve_starts_alone_ends_with_the_cloud_and_follows_the_scores() -> None:
    curve = accuracy_curve([0.1, 3.0, -2.0, 1.0], [True, False, True, False], [1.0] * 4)
    assert curve.tolist() == [0.5, 0.75, 1.0, 1.0, 1.0]
    assert accuracy_curve([3.0, 0.0], [True, False], [0.0, 0.0]).tolist() == [0.5, 0.0, 0.0]


def test_scores_do_not_depend_on_the_bias_they_were_measured_under(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder)
    task = get_task("countdown")
    problems = task.problems("test", 24, 0)
    source = PolicyDecider(policy, context_length=64)
    biased = [policy.routing.model_copy(update={"marker_bias": bias}) for bias in (-30.0, 3.0)]
    low, high = (evaluate(source, task, problems, None, routing=routing).scores for routing in biased)
    assert np.allclose(low, high, atol=1e-4)
    assert len(set(low)) > 1
