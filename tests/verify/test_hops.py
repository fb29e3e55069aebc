"""Hops worked by hand."""

from __future__ import annotations

import pytest

from edgekit.routing.decoder import Decision
from edgekit.verify.parity import compare, same_before_decision


def kept(*ids: int, answer: str = "x", margin: float = -4.0) -> Decision:
    return Decision("local", "answer", "", answer, ids, margin)


def called(*ids: int, margin: float = 4.0) -> Decision:
    return Decision("cloud", "marker", "", None, (*ids, 99), margin)


def test_a_hop_of_six_prompts_by_hand() -> None:
    before = [kept(1, 2), kept(1, 2), kept(1, 2, margin=-0.3), called(1), called(5), kept(3, 4)]
    after = [kept(1, 2), called(1), called(1), kept(2, 2), called(5), kept(3, 5, answer="y")]
    hop = compare(before, after)
    assert hop.decision_agreement == pytest.approx(3 / 6)
    assert (hop.kept_to_called, hop.called_to_kept) == (2, 1)
    assert (hop.near_margin_flips, hop.diverged_flips, hop.broken) == (1, 1, 1)
    assert hop.decision_agreement_same_answer == pytest.approx(2 / 4)
    assert hop.answer_agreement == pytest.approx(1 / 2)
    assert hop.token_agreement == pytest.approx((1 + 0.5 + 0.5 + 0 + 1 + 0.5) / 6)
    assert (hop.call_fraction_before, hop.call_fraction_after) == (pytest.approx(2 / 6), pytest.approx(3 / 6))


def test_same_before_the_decision_means_up_to_the_marker() -> None:
    assert same_before_decision(kept(1, 2, 3), called(1, 2))
    assert not same_before_decision(kept(1, 2, 3), called(2))
    assert not same_before_decision(kept(1, 2), kept(1, 2, 3))
    assert not same_before_decision(called(1), called(1, 2))
    assert same_before_decision(called(1), called(1))
