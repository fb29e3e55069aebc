"""Writes decision_cases.json: made-up logits and what the decision rule makes of them at several marker biases.

Usage: .venv/bin/python tests/conformance/make_decision_cases.py. The same file every time. Each decision is made twice,
by decoding at its bias and from the response with the marker forbidden, and both have to agree.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import BadLogits
from edgekit.routing.decision_rule import SOLO
from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.routing.decoder import Decision
from edgekit.routing.replay import decision_at
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary

CASES = Path(__file__).parent / "decision_cases.json"
ABOUT = (
    "Made-up logits and what DecodeSession decides from them. rows are the logits of the steps, the last one for every "
    'further step; "nan", "inf" and "-inf" stand for what JSON cannot write. marker_token_ids and max_new_tokens '
    "replace routing's. margins are those of the response with the marker forbidden, as [position, margin]; every "
    "decision, at marker_bias, must come from decoding at that bias and from that response alike. marker_bias null is "
    "minus infinity, marker_margin null minus infinity. A case with refused is one that decoding must refuse with an "
    "error of that kind."
)
PIECES = ("<answer>", "</answer>", "<call>", "\n", "a", "<", "ca", "ll>", " ", "")
STOP, CONTEXT, PROMPT = 9, 32, [4]
ROUTING = {
    "marker": {"text": "<call>", "token_ids": [[2]]},
    "stop_token_ids": [STOP],
    "max_new_tokens": 10,
    "on_no_answer": "local",
}
SPELLED = [5, 6, 7]
SPELLINGS = (
    [[2]], [SPELLED], [[2], SPELLED], [[4, 4]], [[3, 4], [3, 4, 6]], [[8, 5], [5]], [SPELLED, [5, 6]], [[5, 6], [6, 5]]
)  # fmt: skip
Row = list[float]


def row(**wanted: float) -> Row:
    """Logits of -4, but for the ids named: i2=1.5 gives id 2 a logit of 1.5."""
    logits = [-4.0] * len(PIECES)
    for name, value in wanted.items():
        logits[int(name.removeprefix("i"))] = value
    return logits


def written() -> Iterator[tuple[str, dict[str, Any], list[Row], list[float]]]:
    """Cases whose point can be named: (name, routing overrides, rows, biases)."""
    spelled = {"marker_token_ids": [SPELLED]}
    answer = [row(i0=1.0), row(i4=1.0), row(i1=1.0)]
    yield "a marker of one token, just under", {}, [row(i4=1.0, i2=-0.5), row(i9=1.0)], [0.0, 1.5, 1.625]
    yield (
        "a marker that begins like an answer leaves the answer alone",
        spelled,
        [row(i5=2.0), row(i4=1.0, i6=-1.0), row(i9=1.0)],
        [0.0, 1.9, 2.1, -5.0],
    )
    yield (
        "a marker that the policy writes by itself, forbidden at its last token",
        spelled,
        [row(i5=2.0), row(i6=0.5, i4=0.25), row(i7=1.0), row(i9=1.0)],
        [0.0, -0.2, -0.25, -0.3, 3.0],
    )
    yield (
        "a marker whose first token wants a push is written to its end",
        spelled,
        [row(i4=1.0, i5=0.0), row(i4=3.0), row(i9=3.0)],
        [0.0, 1.0, 1.125],
    )
    yield "the weakest of a marker's tokens decides", spelled, [
        row(i5=0.5, i4=0.25), row(i6=2.0), row(i7=-1.0, i4=-1.125), row(i9=1.0)
    ], [0.0, -0.1, -0.125, -0.2]  # fmt: skip
    yield "a marker that does not fit is none", {**spelled, "max_new_tokens": 2}, [row(i5=2.0), row(i6=2.0)], [9.0]
    yield "a marker that just fits", {**spelled, "max_new_tokens": 3}, [row(i5=2.0), row(i6=2.0), row(i7=2.0)], [0.0]
    yield "no marker within an answer", {}, [row(i0=1.0), row(i2=9.0, i4=1.0), row(i1=1.0)], [0.0, 9.0]
    yield "the second of two spellings", {"marker_token_ids": [SPELLED, [2]]}, [row(i4=1.0, i2=0.5), *answer], [0.6]
    yield "equal logits: the policy keeps the prompt", {}, [row(i4=1.0, i2=1.0), row(i9=1.0)], [0.0, 1e-9]
    yield "everything equal", {}, [[0.0] * len(PIECES)], [0.0, 1.0, -1.0]
    never = row(i4=1.0)
    never[2] = -math.inf
    yield "a marker that can never be chosen", {}, [never, row(i9=1.0)], [0.0, 1e300]
    alone = [-math.inf] * len(PIECES)
    alone[2] = 0.0
    yield "nothing but the marker can be chosen", {"max_new_tokens": 2}, [alone], [0.0, -1e300]


def drawn(source: random.Random) -> Iterator[tuple[str, dict[str, Any], list[Row], list[float]]]:
    """Random logits under every spelling of the marker."""
    for spelling in SPELLINGS:
        for number in range(8):
            rows = [[source.randrange(-16, 16) / 8 + i / 64 for i in range(len(PIECES))] for _ in range(10)]
            overrides = {"marker_token_ids": spelling, "max_new_tokens": source.randint(1, 10)}
            biases = [source.randrange(-32, 32) / 8 for _ in range(3)]
            yield f"drawn {number + 1}, marker {spelling}", overrides, rows, [0.0, 2.0, *biases]


def broken() -> Iterator[tuple[str, dict[str, Any], list[Row]]]:
    """What no token can be chosen from."""
    for value in (math.nan, math.inf):
        for place in (0, 2, 9):
            logits = row(i4=1.0)
            logits[place] = value
            yield f"{value} at id {place} in the first step", {}, [logits]
        yield f"{value} in the third step", {}, [row(i4=1.0), row(i4=1.0), [value] * len(PIECES)]
    yield "minus infinity everywhere", {}, [[-math.inf] * len(PIECES)]
    yield "too few for the marker", {}, [[0.0, 1.0]]
    yield "none at all", {}, [[]]


class Rows:
    """A step model that returns ``rows`` in turn, whatever it is given; the last one stays."""

    context_length = CONTEXT

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def reset(self) -> None:
        self.at = -1

    def prefill(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        self.at += 1
        return np.array(self.rows[min(self.at, len(self.rows) - 1)], np.float32)

    def decode(self, token_id: int) -> NDArray[np.float32]:
        return self.prefill([token_id])


VOCABULARY = Vocabulary({i: piece.encode() for i, piece in enumerate(PIECES)})


def spec_of(overrides: dict[str, Any]) -> RoutingSpec:
    """The file's routing with a case's overrides."""
    marker = {**ROUTING["marker"], "token_ids": overrides.get("marker_token_ids", ROUTING["marker"]["token_ids"])}
    limit = overrides.get("max_new_tokens", ROUTING["max_new_tokens"])
    return RoutingSpec.model_validate({**ROUTING, "marker": marker, "max_new_tokens": limit})


def decide(spec: RoutingSpec, rows: Sequence[Row], bias: float) -> Decision:
    """What the session decides at ``bias``."""
    return decode(Rows(rows), PROMPT, DecodeSession(spec, VOCABULARY, len(PROMPT), CONTEXT, bias))


def expected(decision: Decision) -> dict[str, Any]:
    """A decision as the file writes it."""
    margin = decision.marker_margin if math.isfinite(decision.marker_margin) else None
    fields = {key: getattr(decision, key) for key in ("route", "reason", "text", "answer")}
    return {**fields, "token_ids": list(decision.token_ids), "marker_margin": margin}


def plain(rows: Sequence[Row]) -> list[list[float | str]]:
    """``rows`` without numbers that JSON cannot write."""
    return [[value if math.isfinite(value) else str(value) for value in each] for each in rows]


def cases() -> Iterator[dict[str, Any]]:
    """Every case of the file."""
    for name, overrides, rows, biases in [*written(), *drawn(random.Random(7))]:
        spec = spec_of(overrides)
        solo = decide(spec, rows, SOLO)
        decisions = []
        for bias in [SOLO, *biases]:
            decision = decide(spec, rows, bias)
            if decision != decision_at(solo, bias, spec, VOCABULARY):
                raise SystemExit(f"two decisions: {name} at {bias}. Decoded and derived differ. Find out who is wrong.")
            decisions.append({"marker_bias": bias if bias > SOLO else None, "expect": expected(decision)})
        margins = [[position, margin] for position, margin in solo.margins if math.isfinite(margin)]
        yield {"name": name, **overrides, "rows": plain(rows), "margins": margins, "decisions": decisions}
    for name, overrides, rows in broken():
        try:
            decide(spec_of(overrides), rows, 0.0)
        except BadLogits as error:
            yield {"name": name, **overrides, "rows": plain(rows), "refused": error.kind}
        else:
            raise SystemExit(f"not refused: {name}. No token can be chosen from it. Find out why.")


def make() -> str:
    """The file's text, a case a line."""
    pieces = {str(i): piece for i, piece in enumerate(PIECES)}
    data = {"about": ABOUT, "routing": ROUTING, "context_length": CONTEXT, "prompt_token_ids": PROMPT, "pieces": pieces}
    lines = ",\n  ".join(json.dumps(case) for case in cases())
    return f'{json.dumps(data, indent=1)[:-2]},\n "cases": [\n  {lines}\n ]\n}}\n'


if __name__ == "__main__":
    CASES.write_text(make())
