"""Comparing decisions: pure functions from lists of decisions to a report. Runs no model.

Three lists per prompt: the reference, the quantized reference, the artifact. The hop between the first two
is ``quantization``, between the last two ``lowering``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.evaluate.intervals import wilson_interval
from edgekit.routing.decoder import Decision

NEAR_MARGIN = 1.0
"""Below this |marker margin| (in logits) the reference itself hesitated; a flip there is a near tie."""


@dataclass(frozen=True)
class Hop:
    """Agreement between two lists of decisions, ``before`` and ``after``.

    decision_agreement: share of prompts with the same route.
    decision_agreement_same_answer: the same among prompts where both wrote the same tokens up to the decision
        (see :func:`same_before_decision`), so that only the decision itself could differ; None if there are none.
    kept_to_called, called_to_kept: flips, as counts.
    answer_agreement: share with the same answer among prompts kept by both; None if there are none.
    token_agreement: mean over prompts of the common prefix's length over the longer one's length.
    near_margin_flips: flips where ``before``'s marker margin was within ``near_margin`` of 0.
    diverged_flips: other flips, after the texts had already diverged (another attempt, another verdict).
    broken: flips after the same tokens and far from the margin: nothing but a fault explains them.
    decision_agreement_interval: the 95 % confidence interval of the agreement over all such prompts (Wilson).
    """

    decision_agreement: float
    decision_agreement_same_answer: float | None
    kept_to_called: int
    called_to_kept: int
    answer_agreement: float | None
    token_agreement: float
    near_margin_flips: int
    diverged_flips: int
    broken: int
    call_fraction_before: float
    call_fraction_after: float
    decision_agreement_interval: tuple[float, float]


AGREEMENT_KEYS = (
    "decision_agreement",
    "decision_agreement_interval",
    "decision_agreement_same_answer",
    "kept_to_called",
    "called_to_kept",
    "answer_agreement",
    "token_agreement",
    "near_margin_flips",
    "diverged_flips",
    "broken",
)


def hop_json(hop: Hop | None) -> dict[str, Any]:
    """A hop as JSON data, every key null without one."""
    keys = (*AGREEMENT_KEYS, "call_fraction_before", "call_fraction_after")
    return {key: None if hop is None else getattr(hop, key) for key in keys}


def same_before_decision(before: Decision, after: Decision, marker_length: int = 1) -> bool:
    """True if both wrote the same tokens up to the point where the first of them decided.

    Called by marker, a side decided when it chose the marker (its last ``marker_length`` tokens); otherwise at its end.
    So two kept prompts must have equal tokens, two called ones equal tokens before the marker, and in a flip the
    side that kept must begin with everything the other wrote before its marker.
    """
    a, b = before.token_ids, after.token_ids
    common = common_prefix(a, b)
    if before.reason == after.reason == "marker" or before.reason != "marker" != after.reason:
        return common == len(a) == len(b)
    caller = a if before.reason == "marker" else b
    return len(caller) - marker_length <= common < len(caller)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens are equal."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def compare(
    before: Sequence[Decision], after: Sequence[Decision], near_margin: float = NEAR_MARGIN, marker_length: int = 1
) -> Hop:
    """Compare two lists of decisions about the same n >= 1 prompts, in order."""
    pairs = list(zip(before, after, strict=True))
    flips = [(a, b) for a, b in pairs if a.called != b.called]
    same = [(a, b) for a, b in pairs if same_before_decision(a, b, marker_length)]
    kept = [(a, b) for a, b in pairs if not a.called and not b.called]
    near = sum(abs(a.marker_margin) < near_margin for a, _ in flips)
    broken = sum(a.called != b.called and not abs(a.marker_margin) < near_margin for a, b in same)
    return Hop(
        decision_agreement=1 - len(flips) / len(pairs),
        decision_agreement_same_answer=sum(a.called == b.called for a, b in same) / len(same) if same else None,
        kept_to_called=sum(b.called for _, b in flips),
        called_to_kept=sum(a.called for a, _ in flips),
        answer_agreement=sum(a.answer == b.answer for a, b in kept) / len(kept) if kept else None,
        token_agreement=sum(token_agreement(a.token_ids, b.token_ids) for a, b in pairs) / len(pairs),
        near_margin_flips=near,
        diverged_flips=len(flips) - near - broken,
        broken=broken,
        call_fraction_before=sum(a.called for a, _ in pairs) / len(pairs),
        call_fraction_after=sum(b.called for _, b in pairs) / len(pairs),
        decision_agreement_interval=wilson_interval(len(pairs) - len(flips), len(pairs)),
    )


def token_agreement(a: Sequence[int], b: Sequence[int]) -> float:
    """Common prefix over the longer length; 1 for two empty lists."""
    longer = max(len(a), len(b))
    return common_prefix(a, b) / longer if longer else 1.0
