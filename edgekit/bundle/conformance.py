"""conformance.jsonl: real prompts with the decisions of the reference and of the quantized reference.

The phone apps replay them, and a bundle far from its run is verified with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edgekit.errors import BundleError
from edgekit.routing.decoder import Decision, Route

CONFORMANCE = "conformance.jsonl"


class RecordedDecision(BaseModel):
    """A decision as stored; ``marker_margin`` is null if it was not a finite number."""

    model_config = ConfigDict(frozen=True)
    token_ids: tuple[int, ...]
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
    prompt_token_ids: tuple[int, ...]
    marker_bias: float
    reference: RecordedDecision
    quantized_reference: RecordedDecision


def conformance_text(cases: Sequence[ConformanceCase]) -> str:
    """The file's text, one JSON object a line."""
    return "".join(json.dumps(case.model_dump(mode="json"), allow_nan=False) + "\n" for case in cases)


def read_conformance(path: Path) -> list[ConformanceCase]:
    """Read ``path``. Raises :class:`BundleError` naming the first bad line."""
    cases = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"unreadable conformance cases: {path}. {error}. Export the bundle again.") from None
    for number, line in enumerate(lines, start=1):
        try:
            cases.append(ConformanceCase.model_validate_json(line))
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "line"
            message = f"bad conformance case: {path}:{number}. {where}: {fault['msg']}. Export the bundle again."
            raise BundleError(message) from None
    return cases
