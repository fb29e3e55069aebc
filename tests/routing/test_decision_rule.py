"""The decision rule: one threshold whatever the marker's length, and everything at another bias without the model."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import BadLogits
from edgekit.routing.decision_rule import SOLO, calls, contest
from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.routing.decoder import Decision, RoutingDecoder
from edgekit.routing.replay import decision_at, marker_places
from edgekit.routing.spec import Marker, RoutingSpec
from edgekit.routing.vocabulary import Vocabulary

PIECES = {
    0: b"<answer>",
    1: b"</answer>",
    2: b"<call>",
    3: b"\n",
    4: b"a",
    5: b"<",
    6: b"ca",
    7: b"ll>",
    8: b" ",
    9: b"",
}
VOCABULARY, STOP = Vocabulary(PIECES), 9
SPELLINGS = [
    ((2,),),
    ((5, 6, 7),),
    ((2,), (5, 6, 7)),
    ((4, 4),),
    ((3, 4), (3, 4, 6)),
    ((8, 5), (5,)),
    ((5, 6), (5, 6, 7)),
]


def test_the_shared_cases_are_what_is_decided() -> None:
    path = Path(__file__).parents[1] / "conformance" / "make_decision_cases.py"
    found = importlib.util.spec_from_file_location(path.stem, path)
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    assert script.make() == script.CASES.read_text()


def spec(markers: tuple[tuple[int, ...], ...], limit: int = 12) -> RoutingSpec:
    marker = Marker(text="<call>", token_ids=markers)
    return RoutingSpec(marker=marker, stop_token_ids=(STOP,), max_new_tokens=limit)


class Seeded:
    """A policy whose logits are drawn from what it has read: other texts, other logits."""

    context_length = 64

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def reset(self) -> None:
        self.read: list[int] = []

    def prefill(self, token_ids: list[int]) -> np.ndarray:
        self.read += token_ids
        source = random.Random(f"{self.seed}/{self.read}")
        return np.array([source.randrange(-32, 32) / 8 + 1e-3 * i for i in range(len(PIECES))], np.float32)

    def decode(self, token_id: int) -> np.ndarray:
        return self.prefill([token_id])


def decide(seed: int, routing: RoutingSpec, bias: float, context: int = 64) -> Decision:
    return decode(Seeded(seed), [4], DecodeSession(routing, VOCABULARY, 1, context, bias))


policies = st.integers(0, 10**6)
markers = st.sampled_from(SPELLINGS)


@settings(max_examples=400)
@given(policies, markers, st.integers(-80, 80).map(lambda n: n / 16), st.integers(1, 12), st.integers(2, 16))
def test_the_decision_at_any_bias_follows_from_the_response_with_the_marker_forbidden(
    seed: int, spellings: tuple[tuple[int, ...], ...], bias: float, limit: int, context: int
) -> None:
    routing = spec(spellings, limit)
    solo = decide(seed, routing, SOLO, context)
    assert solo.reason != "marker"
    natural = decide(seed, routing, bias, context)
    assert decision_at(solo, bias, routing, VOCABULARY) == natural
    assert (natural.reason == "marker") == any(calls(margin, bias) for _, margin in solo.margins)
    assert decision_at(solo, SOLO, routing, VOCABULARY) == solo
    counts = marker_places(routing, VOCABULARY, solo.token_ids)
    if all(len(ids) == 1 for ids in spellings):
        assert [position for position, _ in solo.margins] == counts


@settings(max_examples=300)
@given(policies, markers)
def test_without_a_bias_it_is_plain_greedy_decoding(seed: int, spellings: tuple[tuple[int, ...], ...]) -> None:
    routing = spec(spellings)
    model, decoder = Seeded(seed), RoutingDecoder(routing, VOCABULARY)
    model.reset()
    logits = model.prefill([4])
    while not decoder.done and len(decoder.token_ids) < routing.max_new_tokens:
        token = int(logits.argmax())
        decoder.push(token)
        logits = model.decode(token)
    plain, ruled = decoder.finish(), decide(seed, routing, 0.0)
    assert (plain.route, plain.reason, plain.text, plain.answer) == (
        ruled.route,
        ruled.reason,
        ruled.text,
        ruled.answer,
    )
    if plain.reason != "marker":
        assert plain.token_ids == ruled.token_ids


@given(st.integers(1, 6), st.sets(st.integers(0, 11), min_size=1, max_size=4), st.integers(0, 10**6))
def test_many_steps_at_once_are_the_steps_one_by_one(rows: int, candidates: set[int], seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(rows, 12)).astype(np.float32)
    together = contest(logits, sorted(candidates))
    for row in range(rows):
        alone = contest(logits[row], sorted(candidates))
        assert (together.marker[row], together.other[row], together.margin[row]) == (
            alone.marker, alone.other, alone.margin
        )  # fmt: skip
        inside = max(logits[row][sorted(candidates)])
        outside = max(value for index, value in enumerate(logits[row]) if index not in candidates)
        assert alone.margin == inside - outside


class Fixed:
    """Always the same logits."""

    context_length = 64

    def __init__(self, logits: list[float]) -> None:
        self.logits = np.array(logits, np.float32)

    def reset(self) -> None:
        pass

    def prefill(self, token_ids: list[int]) -> np.ndarray:
        return self.logits

    def decode(self, token_id: int) -> np.ndarray:
        return self.logits


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 2, 9])
def test_logits_that_are_no_numbers_stop_the_decoding(bad: float, place: int) -> None:
    logits = [0.0] * 10
    logits[place] = bad
    with pytest.raises(BadLogits, match=r"token 0 of the response\. They are not all numbers"):
        decode(Fixed(logits), [4], DecodeSession(spec(((2,),)), VOCABULARY, 1, 64))


def test_ids_that_are_never_chosen_may_be_minus_infinity_but_not_all_of_them() -> None:
    never = float("-inf")
    logits = [never] * 9 + [0.0]
    assert decode(Fixed(logits), [4], DecodeSession(spec(((2,),)), VOCABULARY, 1, 64)).token_ids == (STOP,)
    with pytest.raises(BadLogits, match="not all numbers"):
        decode(Fixed([never] * 10), [4], DecodeSession(spec(((2,),)), VOCABULARY, 1, 64))
    with pytest.raises(BadLogits, match="shape"):
        decode(Fixed([0.0, 0.0]), [4], DecodeSession(spec(((2,),)), VOCABULARY, 1, 64))
