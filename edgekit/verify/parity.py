"""Comparing decisions: pure functions from lists of decisions to a report. Runs no model.

Three lists per prompt: the reference, the quantized reference, the artifact. The hop between the first two
is ``quantization``, between the last two ``lowering``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgekit.evaluate.intervals import wilson_interval
from edgekit.routing.decoder import Decision

CheckOutcome = Literal["MATCH", "MISMATCH", "NOT_RUN"]
HopName = Literal["quantization", "lowering"]

NEAR_MARGIN = 1.0
"""Below this |marker margin| (in logits) the reference itself hesitated; a flip there is a near tie."""


@dataclass(frozen=True)
class Thresholds:
    """What an artifact must reach.

    ``min_agreement``: decisions, reference against artifact; int4 rounds weights, so some texts, and with them
    some decisions, change. ``min_lowering_agreement`` and ``min_lowering_tokens``: decisions and tokens, quantized
    reference against artifact; both hold the same numbers, so only float rounding may differ.
    """

    min_agreement: float = 0.85
    min_lowering_agreement: float = 0.98
    min_lowering_tokens: float = 0.9
    near_margin: float = NEAR_MARGIN


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


@dataclass(frozen=True)
class VerifyReport:
    """The result of ``edgekit verify``. ``faults`` are reasons for a MISMATCH or NOT_RUN, each naming its hop.

    ``max_abs_logit_diff`` is None without the reference's weights (verified from conformance cases).
    """

    passed: bool
    outcome: CheckOutcome
    runtime: str
    n: int
    overall: Hop | None
    quantization: Hop | None
    lowering: Hop | None
    overall_accuracy_reference: float | None = None
    overall_accuracy_artifact: float | None = None
    max_abs_logit_diff: float | None = None
    faults: list[str] = field(default_factory=list)
    source: Literal["reference", "conformance"] = "reference"

    def to_json(self) -> dict[str, Any]:
        """The report as JSON data; without decisions (NOT_RUN) the agreement keys are null."""
        overall = hop_json(self.overall)
        return {
            "passed": self.passed,
            "outcome": self.outcome,
            "runtime": self.runtime,
            "n": self.n,
            "source": self.source,
            **{key: overall[key] for key in AGREEMENT_KEYS},
            "overall_accuracy_reference": self.overall_accuracy_reference,
            "overall_accuracy_artifact": self.overall_accuracy_artifact,
            "call_fraction_reference": overall["call_fraction_before"],
            "call_fraction_artifact": overall["call_fraction_after"],
            "max_abs_logit_diff": self.max_abs_logit_diff,
            "quantization": hop_json(self.quantization),
            "lowering": hop_json(self.lowering) | {"max_abs_logit_diff": self.max_abs_logit_diff},
            "faults": self.faults,
        }


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


def find_faults(overall: Hop, lowering: Hop, max_abs_logit_diff: float | None, limits: Thresholds) -> list[str]:
    """Every requirement not met, each line beginning with the hop at fault.

    Low overall agreement is the quantization's fault unless the lowering hop fails by itself. A flip far from the
    margin after the same tokens fails the lowering hop only: quantization may move a logit that far.
    """
    faults = []
    if lowering.decision_agreement < limits.min_lowering_agreement:
        faults.append(
            f"lowering: decision agreement {lowering.decision_agreement:.3f} is below {limits.min_lowering_agreement:g}"
        )
    if lowering.token_agreement < limits.min_lowering_tokens:
        faults.append(
            f"lowering: token agreement {lowering.token_agreement:.3f} is below {limits.min_lowering_tokens:g}"
        )
    if lowering.broken:
        faults.append(f"lowering: {lowering.broken} decisions flipped far from the margin after the same tokens")
    if max_abs_logit_diff is not None and not math.isfinite(max_abs_logit_diff):
        faults.append("lowering: the artifact's logits are not finite")
    if overall.decision_agreement < limits.min_agreement:
        hop = "lowering" if faults else "quantization"
        faults.append(
            f"{hop}: overall decision agreement {overall.decision_agreement:.3f} is below {limits.min_agreement:g}"
        )
    return faults
