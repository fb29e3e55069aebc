"""From decisions and their correctness to the numbers of an evaluation. Pure functions, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgekit.routing.decoder import Decision
from edgekit.routing.spec import RoutingSpec


@dataclass(frozen=True)
class EvalReport:
    """The numbers of ``edgekit eval``; None where a share is of nothing (no prompt kept, none handed off).

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
    marker_bias: float

    def to_json(self) -> dict[str, Any]:
        """The report as JSON data."""
        return asdict(self)


def random_overall_accuracy(local_accuracy: float, call_fraction: float, cloud_accuracy: float) -> float:
    """A router that calls for a random share c: (1 - c) * local + c * cloud."""
    return (1 - call_fraction) * local_accuracy + call_fraction * cloud_accuracy


def oracle_overall_accuracy(local_accuracy: float, call_fraction: float, cloud_accuracy: float) -> float:
    """A router that knows which local answers are wrong and calls for those first.

    With w = 1 - local the share of wrong local answers, min(c, w) of the calls replace a wrong answer and the
    rest, c - min(c, w), replace a right one: local - (c - min(c, w)) + c * cloud.
    """
    needless = call_fraction - min(call_fraction, 1 - local_accuracy)
    return local_accuracy - needless + call_fraction * cloud_accuracy


def tokens_before_call(decision: Decision, spec: RoutingSpec) -> int:
    """How many tokens the policy generated on the device before the hand-off (the marker not counted)."""
    if decision.reason != "marker":
        return len(decision.token_ids)
    lengths = [len(ids) for ids in spec.marker.token_ids if decision.token_ids[-len(ids) :] == ids]
    return len(decision.token_ids) - max(lengths, default=1)


def summarize(
    decisions: Sequence[Decision],
    local_correct: Sequence[bool],
    cloud_correct: Sequence[bool],
    spec: RoutingSpec,
    marker_bias: float,
) -> EvalReport:
    """The report of n prompts.

    ``local_correct`` says whether the answer as if nothing were handed off is right; ``cloud_correct``
    whether the cloud's is, and is read only where the decision is a call.
    """
    n = len(decisions)
    called = [decision.called for decision in decisions]
    kept_hits = [right for right, away in zip(local_correct, called, strict=True) if not away]
    cloud_hits = [right for right, away in zip(cloud_correct, called, strict=True) if away]
    local, fraction = _mean(local_correct), _mean(called)
    cloud = _share(cloud_hits)
    # With no call at all both routers are the local policy, whatever the cloud's accuracy.
    random = random_overall_accuracy(local, fraction, cloud or 0.0)
    oracle = oracle_overall_accuracy(local, fraction, cloud or 0.0)
    overall = (sum(kept_hits) + sum(cloud_hits)) / n
    before = [tokens_before_call(decision, spec) for decision in decisions if decision.called]
    return EvalReport(
        n=n,
        local_accuracy=local,
        kept_accuracy=_share(kept_hits),
        call_fraction=fraction,
        cloud_accuracy=cloud,
        overall_accuracy=overall,
        oracle_overall_accuracy=oracle,
        random_overall_accuracy=random,
        routing_coverage=(overall - random) / (oracle - random) if oracle - random > 1e-9 else None,
        mean_generated_tokens=_mean([len(decision.token_ids) for decision in decisions]),
        mean_tokens_before_call=_mean(before) if before else None,
        no_answer_fraction=_mean([decision.reason == "no_answer" for decision in decisions]),
        marker_bias=marker_bias,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
