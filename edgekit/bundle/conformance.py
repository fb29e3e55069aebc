"""conformance.jsonl: real prompts with the decisions of the reference and of the quantized reference.

The phone apps replay them, and a bundle far from its run is verified with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from edgekit.errors import BundleError, ErrorKind
from edgekit.json_document import DocumentFault, TokenId, check_document
from edgekit.routing.decoder import Decision, Route

CONFORMANCE = "conformance.jsonl"


class RecordedDecision(BaseModel):
    """A decision as stored; ``marker_margin`` is null if it was not a finite number."""

    model_config = ConfigDict(frozen=True)
    token_ids: tuple[TokenId, ...]
    route: Route
    reason: str
    text: str
    answer: str | None
    marker_margin: float | None

    @classmethod
    def of(cls, decision: Decision) -> RecordedDecision:
        """Record ``decision``."""
        margin = decision.marker_margin if math.isfinite(decision.marker_margin) else None
        return cls(
            token_ids=decision.token_ids,
            route=decision.route,
            reason=decision.reason,
            text=decision.text,
            answer=decision.answer,
            marker_margin=margin,
        )

    def decision(self) -> Decision:
        """The decision recorded here."""
        margin = float("-inf") if self.marker_margin is None else self.marker_margin
        return Decision(self.route, self.reason, self.text, self.answer, self.token_ids, margin)


class ConformanceCase(BaseModel):
    """One prompt. ``marker_bias`` is the artifact's and its quantized reference's; a replay must use it.

    The reference decided at the bias of its run.
    """

    model_config = ConfigDict(frozen=True)
    id: str
    prompt: str
    prompt_token_ids: tuple[TokenId, ...]
    marker_bias: float
    reference: RecordedDecision
    quantized_reference: RecordedDecision


def conformance_text(cases: Sequence[ConformanceCase]) -> str:
    """The file's text, one JSON object a line."""
    return "".join(json.dumps(case.model_dump(mode="json"), allow_nan=False) + "\n" for case in cases)


def read_conformance(path: Path) -> list[ConformanceCase]:
    """Read ``path``, one JSON object a line, blank lines aside. Raises :class:`BundleError` naming the first bad."""
    cases = []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BundleError(
            f"unreadable conformance cases: {path}. {error.strerror}. Export the bundle again.", ErrorKind.ABSENT
        ) from None
    for number, line in enumerate(lines, start=1):
        if not line.strip(b" \t\r"):
            continue
        try:
            cases.append(check_document(line, ConformanceCase))
        except DocumentFault as fault:
            message = f"bad conformance case: {path}:{number}. {fault}. Export the bundle again."
            raise BundleError(message, fault.kind) from None
    return cases
