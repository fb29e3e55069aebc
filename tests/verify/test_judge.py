"""The verdict: nothing that routes or answers worse passes unseen, and nothing that merely writes otherwise fails."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.routing.decoder import Decision
from edgekit.verify.forced import Replay, scale_of
from edgekit.verify.judge import Change, Thresholds, find_faults, find_notes
from edgekit.verify.parity import Hop, compare

SOUND = Replay(decision_agreement=1.0, choice_agreement=1.0, steps=1000, broken=0, max_abs_logit_diff=0.01)
LIMITS = Thresholds()


def decision(called: bool, text: int) -> Decision:
    """One of many texts, then an answer or a call."""
    tokens = (text, 99) if called else (text, 7, 8)
    return Decision("cloud" if called else "local", "marker" if called else "answer", "", None, tokens, 3.0)


def hop_of(before: list[bool], after: list[bool], seed: int = 0) -> Hop:
    """Free decoding in which every second prompt gets another text, as near ties early on make of it."""
    source = random.Random(seed)
    first = [decision(called, 1) for called in before]
    return compare(first, [decision(called, source.choice([1, 2])) for called in after])


def judge(before: list[bool], after: list[bool], right: tuple[list[bool], list[bool]] | None = None) -> list[str]:
    """The faults of an artifact with no quantization of its own."""

    def three(a: list[bool], b: list[bool]) -> tuple[Change, Change, Change]:
        return Change.of(a, b), Change.of(a, b), Change.of(b, b)

    changes = {"calls": three(before, after)} | ({} if right is None else {"accuracy": three(*right)})
    return find_faults(hop_of(before, after), hop_of(after, after), SOUND, changes, LIMITS)


def test_a_text_that_merely_parts_is_no_fault() -> None:
    source = random.Random(1)
    before = [source.random() < 0.6 for _ in range(500)]
    after = list(before)
    flips = source.sample(range(500), 80)
    for index in flips[:40]:
        after[index] = True
    for index in flips[40:]:
        after[index] = False
    assert hop_of(before, after).decision_agreement < 0.95
    assert judge(before, after) == []


def test_what_the_agreement_gate_of_old_let_through_is_a_mismatch() -> None:
    """14 % of the decisions lost, all one way: 0.86 agreement was above the 0.85 that was asked for."""
    before = [False] * 400 + [True] * 100
    after = [True] * 70 + before[70:]
    assert hop_of(before, after).decision_agreement == pytest.approx(0.86)
    assert judge(before, after)[0].startswith("quantization: the share of calls moved by +14.0 points")


@pytest.mark.slow
@pytest.mark.parametrize(("calls", "loss"), [(0.05, 0.0), (-0.05, 0.0), (0.0, 0.04), (0.04, 0.03)])
def test_an_artifact_that_loses_is_found_in_almost_every_draw(calls: float, loss: float) -> None:
    source, found = random.Random(11), 0
    for _ in range(60):
        before = [source.random() < 0.5 for _ in range(2000)]
        right = [source.random() < 0.8 for _ in range(2000)]
        # 3 % flip either way for nothing; the loss comes on top.
        after, ended = [], []
        for called, correct in zip(before, right, strict=True):
            moved = source.random() < 0.03 + (2 * abs(calls) if called == (calls < 0) else 0)
            after.append(called != moved)
            ended.append(correct != (source.random() < 0.03 + (loss / 0.8 if correct else -0.02)))
        found += bool(judge(before, after, (right, ended)))
    assert found >= 57


@pytest.mark.slow
def test_an_artifact_that_loses_nothing_passes_in_almost_every_draw() -> None:
    source, found = random.Random(12), 0
    for _ in range(100):
        before = [source.random() < 0.5 for _ in range(1000)]
        after = [called != (source.random() < 0.12) for called in before]
        found += bool(judge(before, after))
    assert found <= 8


counts = st.integers(0, 60)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(counts, counts, counts, counts, st.integers(60, 1500))
def test_a_match_rules_every_loss_out_or_says_that_it_cannot(
    called: int, kept: int, gained: int, lost: int, same: int
) -> None:
    def lists(plus: int, minus: int) -> tuple[list[bool], list[bool]]:
        total = max(called + kept, gained + lost) + same
        rest = total - plus - minus
        return [False] * plus + [True] * minus + [True] * rest, [True] * plus + [False] * minus + [True] * rest

    before, after = lists(called, kept)
    right = lists(gained, lost)
    calls, accuracy = Change.of(before, after), Change.of(*right)
    if judge(before, after, right):
        beyond = abs(calls.value) > 0.02 and calls.is_significant
        assert beyond or (accuracy.value < -0.01 and accuracy.is_significant)
        return
    notes = find_notes(calls, accuracy, LIMITS)
    low, high = calls.interval
    assert (low >= -0.02 and high <= 0.02) or any("the share of calls" in note for note in notes)
    assert accuracy.interval[0] >= -0.01 or any("overall accuracy" in note for note in notes)


def test_the_number_of_prompts_it_would_take_is_one_that_suffices() -> None:
    change = Change(0.5, 0.5, 6, 6, 100)
    need = change.prompts_to_see(0.02)
    each = round(0.06 * need)
    low, high = Change(0.5, 0.5, each, each, need).interval
    assert high - low == pytest.approx(0.04, abs=0.002)
    assert Change(0.5, 0.5, 0, 0, 50).prompts_to_see(0.01) == pytest.approx(381, abs=1)
    assert find_notes(Change.of([True] * 500, [True] * 500), Change.of([True] * 500, [True] * 500), LIMITS) == []


def test_each_fault_names_its_hop() -> None:
    calm = [True, False] * 50
    changes = {"calls": (Change.of(calm, calm),) * 3}
    hop = hop_of(calm, calm)

    def faults(replay: Replay, limits: Thresholds = LIMITS) -> list[str]:
        return find_faults(hop, hop, replay, changes, limits)

    assert faults(SOUND) == []
    assert faults(replace(SOUND, choice_agreement=0.9899))[0].startswith("lowering: 98.99 % of 1000 replayed choices")
    assert faults(replace(SOUND, choice_agreement=0.9985), Thresholds(min_replayed_choices=0.999))
    assert faults(replace(SOUND, broken=1)) == ["lowering: 1 replayed decisions flipped far from the margin"]
    assert faults(replace(SOUND, max_abs_logit_diff=float("inf")))[0].startswith("lowering: the artifact's logits")
    moved = [True] * 80 + calm[80:]
    late = {"calls": (Change.of(calm, moved), Change.of(calm, calm), Change.of(calm, moved))}
    assert find_faults(hop, hop, SOUND, late, LIMITS)[0].startswith("lowering: the share of calls")


@given(st.floats(0.9, 1.0), st.floats(0.9, 1.0), st.integers(100, 100_000))
def test_an_artifact_is_asked_for_no_more_than_its_reference_does_to_itself(
    own: float, share: float, steps: int
) -> None:
    calm = [True, False] * 50
    hop, changes = hop_of(calm, calm), {"calls": (Change.of(calm, calm),) * 3}
    replay, floor = (replace(SOUND, choice_agreement=each, steps=steps) for each in (share, own))
    faults = find_faults(hop, hop, replay, changes, LIMITS, floor)
    if share >= 0.99 or (share >= own and share >= 0.97):
        assert faults == []
    if share < 0.97 or (own >= 0.9999 and share < 0.985 and steps > 10_000):
        assert faults[0].startswith("lowering: ")
    # What was asked for holds whatever the floor is, and without a floor 99 % must agree.
    asked = find_faults(hop, hop, replay, changes, Thresholds(min_replayed_choices=0.99), floor)
    assert bool(asked) == (share < 0.99) == bool(find_faults(hop, hop, replay, changes, LIMITS))


def test_a_match_below_the_usual_share_says_that_rounding_alone_moves_as_much() -> None:
    same = Change.of([True] * 500, [True] * 500)
    replay, floor = (replace(SOUND, choice_agreement=each, steps=4883) for each in (0.9881, 0.9884))
    (note,) = find_notes(same, same, LIMITS, replay, floor)
    assert note.startswith("98.81 % of the replayed choices agree: no fault")
    assert "98.84 %" in note
    assert find_notes(same, same, LIMITS, SOUND, floor) == []


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.sampled_from([60, 1000]), st.floats(0.0, 1.0))
def test_margins_that_only_shake_are_not_larger_as_a_whole(seed: int, count: int, noise: float) -> None:
    source = random.Random(seed)
    theirs = [source.gauss(-4, 4) for _ in range(count)]
    shaken = [(margin, margin + source.gauss(0, noise)) for margin in theirs]
    larger = [(margin, 1.3 * other) for margin, other in shaken]

    def faults(pairs: list[tuple[float, float]]) -> list[str]:
        calm = [False] * 4
        hop, change = hop_of(calm, calm), Change.of(calm, calm)
        replay = replace(SOUND, margin_scale=scale_of(pairs))
        return find_faults(hop, hop, replay, {"calls": (change, change, change)}, LIMITS)

    assert faults(shaken) == []
    assert faults(larger)[0].startswith("lowering: the marker's margins are 1.")
    one_more = (-5.0, -5.0 - 1000 * noise)  # a single one that shook hides nothing, and is no fault
    assert faults([*shaken, one_more]) == []
    assert faults([*larger, one_more])[0].startswith("lowering: the marker's margins are 1.")
    assert scale_of(shaken[:5]) is None
