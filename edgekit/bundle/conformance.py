"""conformance.jsonl: real prompts with what the reference and the quantized reference make of them.

The phone apps replay them, and a bundle far from its run is verified with them. A case holds each side's response with
the marker forbidden and the marker's margins along it, from which the decision at any marker bias follows: a bundle
that is calibrated afterwards is replayed at the bias that it ships with. Version 1 held the decisions at one bias.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from edgekit.errors import BundleError, ErrorKind
from edgekit.json_document import DocumentFault, TokenId, check_document, parse_json
from edgekit.plain_file import RECORD_BYTES, read_bytes
from edgekit.routing.decision_rule import largest_margin
from edgekit.routing.decoder import Decision, Route
from edgekit.routing.replay import decision_at
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary

CONFORMANCE = "conformance.jsonl"
CONFORMANCE_VERSION: Literal[2] = 2
Position = Annotated[int, Field(ge=0, lt=2**31)]


class _Recorded(BaseModel):
    model_config = ConfigDict(frozen=True)
    token_ids: tuple[TokenId, ...]
    route: Route
    reason: str
    text: str
    answer: str | None


class RecordedDecision(_Recorded):
    """A decision as version 1 stored it; ``marker_margin`` is null if it was not a finite number."""

    marker_margin: float | None

    def decision(self) -> Decision:
        """The decision recorded here."""
        margin = float("-inf") if self.marker_margin is None else self.marker_margin
        return Decision(self.route, self.reason, self.text, self.answer, self.token_ids, margin)


class RecordedResponse(_Recorded):
    """A response with the marker forbidden.

    ``margins``: (position, the marker's margin there without any bias) wherever it was decided whether to call.
    """

    margins: tuple[tuple[Position, float], ...]

    @classmethod
    def of(cls, solo: Decision) -> RecordedResponse:
        """Record ``solo``; margins of minus infinity, which no bias lifts, are left out."""
        return cls(
            token_ids=solo.token_ids,
            route=solo.route,
            reason=solo.reason,
            text=solo.text,
            answer=solo.answer,
            margins=tuple((position, margin) for position, margin in solo.margins if math.isfinite(margin)),
        )

    def solo(self) -> Decision:
        """The response recorded here."""
        return Decision(self.route, self.reason, self.text, self.answer, self.token_ids, margins=self.margins)


class _Case(BaseModel):
    model_config = ConfigDict(frozen=True)
    id: str
    prompt: str
    prompt_token_ids: tuple[TokenId, ...]
    marker_bias: float


class OldCase(_Case):
    """One prompt as version 1 stored it.

    The quantized reference decided at ``marker_bias``, where a replay must decide too; the reference at its run's.
    """

    version: Literal[1] = 1
    reference: RecordedDecision
    quantized_reference: RecordedDecision

    def bias(self, routing: RoutingSpec) -> float:
        """The bias at which a replay has to decide."""
        return self.marker_bias

    def expected(self, routing: RoutingSpec, vocabulary: Vocabulary) -> Decision:
        """What the quantized reference decides there."""
        return self.quantized_reference.decision()

    def reference_decision(self, routing: RoutingSpec, vocabulary: Vocabulary) -> Decision:
        """What the reference decided."""
        return self.reference.decision()

    @property
    def call_margin(self) -> float:
        """Above minus this bias the quantized reference calls; of one that called, a bound from below."""
        return self.quantized_reference.decision().marker_margin - self.marker_bias


class ConformanceCase(_Case):
    """One prompt. ``marker_bias`` is that of the artifact when it was exported, ``reference_bias`` its run's.

    ``reference_answer`` is what an answer is held against by the rule ``grading_rule``, so that the case is graded
    where its task is not; None where only the task grades it, and in bundles made before these were recorded.
    """

    version: Literal[2]
    grading_rule: str | None = None
    reference_answer: str | None = None
    reference_bias: float
    reference: RecordedResponse
    quantized_reference: RecordedResponse

    def bias(self, routing: RoutingSpec) -> float:
        """The bias at which a replay has to decide: the one that ships."""
        return routing.marker_bias

    def expected(self, routing: RoutingSpec, vocabulary: Vocabulary) -> Decision:
        """What the quantized reference decides there."""
        return decision_at(self.quantized_reference.solo(), routing.marker_bias, routing, vocabulary)

    def reference_decision(self, routing: RoutingSpec, vocabulary: Vocabulary) -> Decision:
        """What the reference decides, at the bias of its run."""
        return decision_at(self.reference.solo(), self.reference_bias, routing, vocabulary)

    @property
    def call_margin(self) -> float:
        """Above minus this bias the quantized reference calls."""
        return largest_margin(self.quantized_reference.margins, 0.0)


AnyCase = ConformanceCase | OldCase


class ConformanceLine(RootModel[AnyCase]):
    """One line of conformance.jsonl, of either version."""


def conformance_text(cases: Sequence[AnyCase]) -> str:
    """The file's text, one JSON object a line."""
    return "".join(json.dumps(case.model_dump(mode="json"), allow_nan=False) + "\n" for case in cases)


def read_conformance(path: Path) -> list[AnyCase]:
    """Read ``path``, one JSON object a line, blank lines aside. Raises :class:`BundleError` naming the first bad."""
    try:
        lines = read_bytes(path, RECORD_BYTES).split(b"\n")
    except OSError as error:
        raise BundleError(
            f"unreadable conformance cases: {path}. {error.strerror}. Export the bundle again.", ErrorKind.ABSENT
        ) from None
    except ValueError as error:
        raise BundleError(f"unreadable conformance cases: {path}. {error}. Export the bundle again.") from None
    cases: list[AnyCase] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip(b" \t\r"):
            continue
        try:
            cases.append(_read_case(line))
        except DocumentFault as fault:
            advice = "Update edgekit" if fault.kind is ErrorKind.NEWER else "Export the bundle again"
            raise BundleError(f"bad conformance case: {path}:{number}. {fault}. {advice}.", fault.kind) from None
    return cases


def _read_case(line: bytes) -> AnyCase:
    data = parse_json(line)
    if isinstance(data, dict) and data.get("version", 1) == 1:
        return check_document(line, OldCase)
    return check_document(line, ConformanceCase, newest=CONFORMANCE_VERSION)
