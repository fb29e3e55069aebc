"""The routing-token decoder: the shared cases, and what must hold for every stream."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.routing.decoder import Decision, RoutingDecoder
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary

CASES = json.loads((Path(__file__).parents[1] / "conformance" / "decoder_cases.json").read_text())
SPEC = RoutingSpec.model_validate(CASES["routing"])
PIECES = {int(i): text.encode() for i, text in CASES["pieces"].items()}
PIECES |= {int(i): bytes.fromhex(text) for i, text in CASES["byte_pieces"].items()}
OVERRIDES = ("on_no_answer", "stop_token_ids", "answer", "prompt_template")
MARKER, STOP = 2, 21


def run(
    token_ids: list[int], spec: RoutingSpec = SPEC, pieces: dict[int, bytes] = PIECES
) -> tuple[Decision, list[str]]:
    decoder = RoutingDecoder(spec, Vocabulary(pieces))
    streamed = [decoder.push(token) for token in token_ids]
    return decoder.finish(), streamed


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["name"])
def test_shared_case(case: dict) -> None:
    changes = {key: case[key] for key in OVERRIDES if key in case}
    marker = {key: case.get(f"marker_{key}", getattr(SPEC.marker, key)) for key in ("text", "token_ids")}
    spec = RoutingSpec.model_validate(SPEC.model_dump() | changes | {"marker": marker})
    decision, streamed = run(case["token_ids"], spec)
    expect = case["expect"]
    got = {"route": decision.route, "reason": decision.reason, "text": decision.text, "answer": decision.answer}
    assert got == expect
    assert streamed == case.get("streamed", streamed)
    assert len(decision.token_ids) == case.get("token_count", len(case["token_ids"]))


streams = st.lists(st.sampled_from(sorted(PIECES)), max_size=24)


@given(streams)
def test_the_marker_never_reaches_the_user_and_streamed_text_is_the_decisions_text(tokens: list[int]) -> None:
    decision, streamed = run(tokens)
    assert SPEC.marker.text not in decision.text
    assert SPEC.marker.text not in (decision.answer or "")
    assert decision.text.startswith("".join(streamed))


@given(streams)
def test_only_the_marker_token_generated_whole_is_a_call(tokens: list[int]) -> None:
    decision, _ = run(tokens)
    if decision.reason == "marker":
        assert decision.token_ids[-1] == MARKER
    without, _ = run([token for token in tokens if token != MARKER])
    assert without.reason != "marker"


@given(streams, st.integers(0, 24))
def test_cutting_a_stream_short_never_makes_a_call(tokens: list[int], length: int) -> None:
    whole, _ = run(tokens)
    cut, _ = run(tokens[:length])
    if cut.reason == "marker":
        assert whole.reason == "marker"
        assert whole.token_ids == cut.token_ids
    assert whole.text.startswith(cut.text) or cut.text.endswith("\ufffd")


alphabet = st.sampled_from([*"ab \n<>/", "<answer>", "</answer>", "<unkn", "own> I need", SPEC.marker.text, "€", "é"])


@given(st.lists(alphabet, max_size=12), st.data())
def test_any_chunking_of_the_text_gives_the_same_decision_and_text(parts: list[str], data: st.DataObject) -> None:
    raw = "".join(parts).encode()
    ends = sorted(data.draw(st.sets(st.integers(1, max(len(raw), 1)), max_size=8)) | {len(raw)})
    chunks = [raw[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    bytewise, _ = run(list(range(100, 100 + len(raw))), pieces={100 + i: raw[i : i + 1] for i in range(len(raw))})
    chunked, _ = run(list(range(100, 100 + len(chunks))), pieces={100 + i: c for i, c in enumerate(chunks)})
    for name in ("route", "reason", "text", "answer"):
        assert getattr(bytewise, name) == getattr(chunked, name)
    assert chunked.reason != "marker"  # spelled with other tokens, it never counts


@given(st.lists(alphabet, max_size=6), st.data())
def test_a_marker_token_counts_the_same_however_the_text_before_it_is_chunked(
    parts: list[str], data: st.DataObject
) -> None:
    raw = "".join(parts).encode()
    cut = data.draw(st.integers(0, len(raw)))
    whole, _ = run([100, MARKER], pieces=PIECES | {100: raw})
    split, _ = run([100, 101, MARKER], pieces=PIECES | {100: raw[:cut], 101: raw[cut:]})
    assert (whole.route, whole.reason, whole.text) == (split.route, split.reason, split.text)


class Script:
    """A step model that wants to say ``tokens``, with the marker's logit ``margin`` below the winner's."""

    context_length = 64

    def __init__(self, tokens: list[int], margin: float) -> None:
        self.tokens, self.margin = tokens, margin

    def reset(self) -> None:
        self.at = 0

    def prefill(self, token_ids: list[int]) -> np.ndarray:
        return self._logits()

    def decode(self, token_id: int) -> np.ndarray:
        self.at += 1
        return self._logits()

    def _logits(self) -> np.ndarray:
        logits = np.full(1000, -50.0, np.float32)
        logits[MARKER] = -self.margin
        logits[self.tokens[self.at]] = 0.0
        return logits


@pytest.mark.parametrize(("bias", "called"), [(0.0, False), (1.9, False), (2.1, True), (float("-inf"), False)])
def test_the_bias_moves_the_call_exactly_at_the_margin(bias: float, called: bool) -> None:
    model = Script([5, 3, 0, 8, 1], margin=2.0)
    decision = decode(model, [1, 2], DecodeSession(SPEC, Vocabulary(PIECES), 2, 64, bias))
    assert decision.called is called
    assert decision.marker_margin == pytest.approx(-2.0 + (0.0 if bias == float("-inf") else bias))


@settings(max_examples=50)
@given(streams.filter(bool), st.integers(1, 12))
def test_the_session_streams_exactly_the_decisions_text(tokens: list[int], limit: int) -> None:
    tokens = [token for token in tokens if token != MARKER] + [STOP] * 30
    shown: list[str] = []
    spec = SPEC.model_copy(update={"max_new_tokens": limit})
    session = DecodeSession(spec, Vocabulary(PIECES), 2, 64, float("-inf"), shown.append)
    decision = decode(Script(tokens, margin=9.0), [1, 2], session)
    assert "".join(shown) == decision.text
    assert len(decision.token_ids) <= limit
