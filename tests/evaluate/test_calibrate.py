"""The marker bias: exact fractions, by construction and when decoded again."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import CheckFailed, EdgekitError
from edgekit.evaluate.answers import PolicyDecider
from edgekit.evaluate.calibrate import bias_for, calibrate, left_calibrated, matching_bias, store_calibration
from edgekit.policy.checkpoint import load_policy
from edgekit.routing.decision_rule import calls
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import Marker, RoutingSpec, load_routing


def test_the_bias_lies_midway_between_the_last_that_calls_and_the_first_that_does_not() -> None:
    assert bias_for([3.0, 1.0, -1.0, -5.0], 0.5) == pytest.approx(0.0)
    assert bias_for([3.0, 1.0, -1.0, -5.0], 0.25) == pytest.approx(-2.0)
    assert bias_for([math.inf, 1.0, -1.0, -5.0], 0.5) == pytest.approx(0.0)


@given(st.sets(st.integers(-200, 200), min_size=1, max_size=40), st.integers(0, 5), st.floats(0, 1))
def test_the_fraction_is_reached_to_the_prompt(finite: set[int], always: int, fraction: float) -> None:
    scores = [n / 8 for n in finite] + [math.inf] * always
    bias = bias_for(scores, fraction)
    assert sum(score + bias > 0 for score in scores) == max(always, round(fraction * len(scores)))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_decoding_again_with_the_stored_bias_calls_exactly_that_often(
    fraction: float, tiny_policy_folder: Path, tiny_prompts: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_policy_folder, run / "policy")
    result = calibrate(PolicyDecider(load_policy(run / "policy")), tiny_prompts, fraction)
    assert store_calibration(run, result) == run / "policy" / "routing.json"
    routing = load_routing(run / "policy" / "routing.json")
    assert routing.calibrated_call_fraction == fraction
    again = PolicyDecider(load_policy(run / "policy")).decide(tiny_prompts)
    assert sum(d.called for d in again) / len(again) == result.reached_fraction == pytest.approx(fraction)


class Scored:
    """Calls on prompt ``i`` if ``scores[i]`` plus the bias is above 0."""

    def __init__(self, scores: list[float], bias: float = 0.0) -> None:
        self.scores = scores
        marker = Marker(text="M", token_ids=((1,),))
        self.routing = RoutingSpec(marker=marker, stop_token_ids=(2,), max_new_tokens=1, marker_bias=bias)

    def decide(
        self, prompts: list[str], marker_bias: float | None = None, on_progress: object = None
    ) -> list[Decision]:
        bias = self.routing.marker_bias if marker_bias is None else marker_bias
        called = [calls(score, bias) for score in self.scores]
        return [
            Decision("cloud" if c else "local", "marker" if c else "answer", "", None, (1,), margins=((0, score),))
            for c, score in zip(called, self.scores, strict=True)
        ]


def test_a_shifted_twin_gets_its_call_fraction_back_and_chance_flips_move_nothing() -> None:
    reference = Scored([i - 69.5 for i in range(100)], bias=0.25)
    shifted = Scored([score + 20 for score in reference.scores])
    before = reference.decide(["p"] * 100)
    bias = matching_bias(before, 0.25, shifted, ["p"] * 100)
    assert [d.called for d in shifted.decide(["p"], bias)] == [d.called for d in reference.decide(["p"])]
    swapped = Scored([-score if 67 <= i <= 71 else score for i, score in enumerate(reference.scores)])
    assert matching_bias(before, 0.25, swapped, ["p"] * 100) == 0.25
    # Few flips all one way: five may be chance (p = .0625, where 1.96 deviations of a normal are passed), six are not.
    for few, moved in ((5, False), (6, True)):
        up = Scored([score + few * (69 - few < i <= 69) for i, score in enumerate(reference.scores)])
        assert sum(calls(score, 0.25) for score in up.scores) - sum(d.called for d in before) == few
        assert (matching_bias(before, 0.25, up, ["p"] * 100) != 0.25) == moved


class Silent:
    """Never answers, so every prompt goes to the cloud."""

    def decide(
        self, prompts: list[str], marker_bias: float | None = None, on_progress: object = None
    ) -> list[Decision]:
        return [Decision("cloud", "no_answer", "", None, (1,), margins=((0, -2.0),)) for _ in prompts]


def test_a_fraction_below_the_unanswered_share_fails_the_check() -> None:
    with pytest.raises(CheckFailed, match="10 of 10 prompts end without an answer"):
        calibrate(Silent(), ["p"] * 10, 0.3)


@pytest.mark.parametrize(("fraction", "prompts"), [(1.5, ["p"]), (float("nan"), ["p"]), (0.3, [])])
def test_bad_input_is_refused(fraction: float, prompts: list[str]) -> None:
    with pytest.raises(EdgekitError):
        calibrate(Silent(), prompts, fraction)


@pytest.mark.parametrize("spellings", [((300, 301, 302),), ((300,), (10, 20)), ((300, 300),)])
def test_a_marker_of_several_tokens_calls_exactly_that_often_too(
    spellings: tuple[tuple[int, ...], ...], tiny_policy_folder: Path, tiny_prompts: list[str]
) -> None:
    policy = load_policy(tiny_policy_folder)
    marker = Marker(text=policy.routing.marker.text, token_ids=spellings)
    policy.routing = policy.routing.model_copy(update={"marker": marker, "max_new_tokens": 24})
    source = PolicyDecider(policy)
    for fraction in (0.1, 0.3, 0.6):
        result = calibrate(source, tiny_prompts, fraction)
        again = source.decide(tiny_prompts, result.marker_bias)
        assert sum(d.called for d in again) / len(again) == result.reached_fraction == pytest.approx(fraction)
        assert {d.reason for d in again if d.called} == {"marker"}


def test_a_share_of_calls_that_left_the_calibrated_one_is_told_with_what_to_do() -> None:
    spec = RoutingSpec(
        marker=Marker(text="?", token_ids=((1,),)),
        stop_token_ids=(2,),
        max_new_tokens=4,
        calibrated_call_fraction=0.216,
    )
    told = left_calibrated(spec, 68, 500, "out/b")
    assert told is not None
    assert "13.6% of 500 prompts call, and it was calibrated to 21.6%" in told
    assert told.endswith("edgekit calibrate out/b --call-fraction 0.216")
    assert left_calibrated(spec, 104, 500, "out/b") is None
    assert left_calibrated(spec, 7, 50, "out/b") is None  # so few prompts do not show it
    assert left_calibrated(spec.model_copy(update={"calibrated_call_fraction": None}), 0, 500, "out/b") is None
