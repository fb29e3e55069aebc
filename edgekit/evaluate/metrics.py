"""From decisions and their correctness to the numbers of an evaluation. Pure functions, no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.evaluate.bounds import oracle_accuracy, random_accuracy
from edgekit.evaluate.intervals import difference_interval
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import RoutingSpec

_HASH = re.compile(r"@[0-9a-f]{64}$")
"""What a task's label in a bundle has after its name; for people the name will do."""


@dataclass(frozen=True)
class CalibrationCheck:
    """What routing.json says of the marker bias's fit, and how far the share of calls lies from it here.

    ``call_fraction`` is what was asked for. ``difference``: the share here less the one reached in the fit (less what
    was asked for, where only that is known), with its 95 % interval (Newcombe's, of two independent shares).
    ``holds``: whether chance explains the difference; None where the fit's own size is not known.
    """

    call_fraction: float | None
    facts: dict[str, Any] | None
    difference: float
    interval: tuple[float, float] | None
    holds: bool | None

    def sentence(self, reached: float) -> str:
        """The same for people; ``reached`` is the share of calls here."""
        here, asked = f"here {reached:.1%} of the prompts call", self.call_fraction or 0.0
        if self.facts is None or self.interval is None:
            return f"calibrated to {asked:.1%}, on what is not known: {here} ({self.difference:+.1%})."
        (low, high), (least, most) = self.facts["interval"], self.interval
        task = _HASH.sub("", self.facts["task"])
        verdict = "which chance explains" if self.holds else "more than chance explains: the budget does not hold here"
        return (
            f"calibrated to {asked:.1%} on {self.facts['n']} {self.facts['split']} problems of {task} "
            f"({low:.1%} to {high:.1%}, 95 %): {here}, {self.difference:+.1%} ({least:+.1%} to {most:+.1%}), {verdict}."
        )


@dataclass(frozen=True)
class EvalReport:
    """The numbers of ``edgekit eval``; None where a share is of nothing (no prompt kept, none handed off).

    ``too_long``, ``device_failed``: prompts handed off for want of room in the context, or because the device's model
    failed on them. ``rescued``, ``harmed``: prompts handed off that only the cloud answers rightly, and that only the
    device would have. ``oracle_overall_accuracy`` and ``random_overall_accuracy``: routers that call as often, one
    knowing both sides' answers, one knowing nothing.
    ``calibration``: on what the bias was fitted, and how far that held here.
    ``routing_coverage`` is how much of the way from random to oracle routing the policy covers:
    (overall - random) / (oracle - random).
    """

    n: int
    local_accuracy: float
    kept_accuracy: float | None
    call_fraction: float
    cloud_accuracy: float | None
    overall_accuracy: float
    oracle_overall_accuracy: float
    random_overall_accuracy: float
    routing_coverage: float | None
    mean_generated_tokens: float
    mean_tokens_before_call: float | None
    no_answer_fraction: float
    too_long: int
    device_failed: int
    marker_bias: float
    rescued: int
    harmed: int
    calibration: CalibrationCheck | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON data."""
        return asdict(self)


def tokens_before_call(decision: Decision, spec: RoutingSpec) -> int:
    """How many tokens the policy generated on the device before the hand-off (the marker not counted)."""
    if decision.reason != "marker":
        return len(decision.token_ids)
    lengths = [len(ids) for ids in spec.marker.token_ids if decision.token_ids[-len(ids) :] == ids]
    return len(decision.token_ids) - max(lengths, default=1)


def expected_cloud(cloud_correct: Sequence[bool | None]) -> list[float]:
    """How likely the cloud answers each problem rightly: 0 or 1 where it was asked, else as often as where it was.

    What it would have said to the others is not known; their errors are taken to be independent of the device's.
    """
    known = [right for right in cloud_correct if right is not None]
    usual = _mean(known) if known else 0.0
    return [usual if right is None else float(right) for right in cloud_correct]


def check_calibration(routing: RoutingSpec, called: int, n: int) -> CalibrationCheck | None:
    """How far ``called`` of ``n`` prompts lies from the calibration that ``routing`` tells of; None if it has none."""
    facts, wanted, share = routing.calibration, routing.calibrated_call_fraction, called / n
    if facts is None:
        return None if wanted is None else CalibrationCheck(wanted, None, share - wanted, None, None)
    low, high = difference_interval(called, n, round(facts.reached_fraction * facts.n), facts.n)
    told = facts.model_dump(mode="json")
    return CalibrationCheck(wanted, told, share - facts.reached_fraction, (low, high), low <= 0 <= high)


def summarize(
    decisions: Sequence[Decision],
    local_correct: Sequence[bool],
    cloud_correct: Sequence[bool | None],
    spec: RoutingSpec,
    marker_bias: float,
    calibration: CalibrationCheck | None = None,
) -> EvalReport:
    """The report of n prompts.

    ``local_correct`` says whether the answer as if nothing were handed off is right; ``cloud_correct`` whether the
    cloud's is, None where it is not known: never for a prompt that is handed off.
    """
    n = len(decisions)
    called = [decision.called for decision in decisions]
    likely = expected_cloud(cloud_correct)
    away = [(here, bool(there)) for here, there, c in zip(local_correct, cloud_correct, called, strict=True) if c]
    kept_hits = [right for right, c in zip(local_correct, called, strict=True) if not c]
    cloud_hits = [there for _, there in away]
    local, fraction = _mean(local_correct), _mean(called)
    helps = _mean([there * (not here) for here, there in zip(local_correct, likely, strict=True)])
    harms = _mean([(1 - there) * here for here, there in zip(local_correct, likely, strict=True)])
    random = random_accuracy(local, _mean(likely), fraction)
    oracle = float(oracle_accuracy(local, helps, harms, fraction))
    overall = (sum(kept_hits) + sum(cloud_hits)) / n
    before = [tokens_before_call(decision, spec) for decision in decisions if decision.called]
    return EvalReport(
        n=n,
        local_accuracy=local,
        kept_accuracy=_share(kept_hits),
        call_fraction=fraction,
        cloud_accuracy=_share(cloud_hits),
        overall_accuracy=overall,
        oracle_overall_accuracy=oracle,
        random_overall_accuracy=random,
        routing_coverage=(overall - random) / (oracle - random) if oracle - random > 1e-9 else None,
        mean_generated_tokens=_mean([len(decision.token_ids) for decision in decisions]),
        mean_tokens_before_call=_mean(before) if before else None,
        no_answer_fraction=_mean([decision.reason == "no_answer" for decision in decisions]),
        too_long=sum(decision.reason == "too_long" for decision in decisions),
        device_failed=sum(decision.reason == "device_failed" for decision in decisions),
        marker_bias=marker_bias,
        rescued=sum(there and not here for here, there in away),
        harmed=sum(here and not there for here, there in away),
        calibration=calibration,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
