"""The result of ``edgekit verify``, and its JSON keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from edgekit.verify.forced import Replay
from edgekit.verify.judge import Change
from edgekit.verify.late import LateReplay
from edgekit.verify.parity import AGREEMENT_KEYS, Hop, hop_json

CheckOutcome = Literal["MATCH", "MISMATCH", "NOT_RUN"]


@dataclass(frozen=True)
class CalibrationHop:
    """What the bundle's own marker bias moves, apart from both hops: the quantized reference before and after."""

    bias_before: float
    bias_after: float
    hop: Hop

    def to_json(self) -> dict[str, Any]:
        """The hop as JSON data."""
        return {"marker_bias_before": self.bias_before, "marker_bias_after": self.bias_after, **hop_json(self.hop)}


@dataclass(frozen=True)
class NoiseFloor:
    """The quantized reference against itself with its norms scaled by 1 + 1e-6."""

    hop: Hop
    replay: Replay

    def to_json(self) -> dict[str, Any]:
        """The floor as JSON data: the lowering hop's keys, and the share of choices in a replay that stay."""
        told = {**hop_json(self.hop), "max_abs_logit_diff": self.replay.max_abs_logit_diff}
        return {**told, "choice_agreement": self.replay.choice_agreement}


@dataclass(frozen=True)
class VerifyReport:
    """The result. ``faults`` are reasons for a MISMATCH or NOT_RUN, each naming its hop; ``notes``: what stays open.

    ``overall`` and the two changes are the reference against the artifact apart from a calibration of the bundle;
    the artifact's own accuracy and call share are as it ships.
    """

    passed: bool
    outcome: CheckOutcome
    runtime: str
    n: int
    overall: Hop | None = None
    quantization: Hop | None = None
    lowering: Hop | None = None
    calibration: CalibrationHop | None = None
    replay: Replay | None = None
    late_replay: LateReplay | None = None
    noise_floor: NoiseFloor | None = None
    call_fraction_change: Change | None = None
    overall_accuracy_change: Change | None = None
    overall_accuracy_reference: float | None = None
    overall_accuracy_artifact: float | None = None
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    source: Literal["reference", "conformance"] = "reference"
    records: list[dict[str, Any]] = field(default_factory=list, repr=False)
    """For each prompt what the ``reference``, the ``quantized`` one and the ``artifact``, as it ships, decided."""

    @property
    def max_abs_logit_diff(self) -> float | None:
        """None without the reference's weights (verified from conformance cases)."""
        return None if self.replay is None else self.replay.max_abs_logit_diff

    def to_json(self) -> dict[str, Any]:
        """The report as JSON data; without decisions (NOT_RUN) the agreement keys are null."""
        overall, parts = hop_json(self.overall), ("calibration", "replay", "late_replay", "noise_floor")
        changes = ("call_fraction_change", "overall_accuracy_change")
        found = {name: getattr(self, name) for name in (*parts, *changes)}
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
            "call_fraction_artifact": None if self.lowering is None else self.lowering.call_fraction_after,
            "max_abs_logit_diff": self.max_abs_logit_diff,
            "quantization": hop_json(self.quantization),
            "lowering": hop_json(self.lowering) | {"max_abs_logit_diff": self.max_abs_logit_diff},
            **{name: None if part is None else part.to_json() for name, part in found.items()},
            "faults": self.faults,
            "notes": self.notes,
        }
