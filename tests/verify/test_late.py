"""Late positions: which texts reach them, and what is judged there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import BadLogits
from edgekit.routing.decoder import Decision
from edgekit.routing.vocabulary import Vocabulary
from edgekit.verify.late import STEPS, TEXTS, LateReplayer, LateText, late_faults, late_texts, unreached

SIZE = 16
sides = st.lists(
    st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.lists(st.integers(0, 9), max_size=30)),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(max_examples=30)
@given(sides, st.integers(0, 600))
def test_late_texts_are_made_of_what_was_written_and_end_where_the_context_does(pairs, more: int) -> None:
    prompts = [prompt for prompt, _ in pairs]
    decisions = [Decision("local", "answer", "", None, tuple(response)) for _, response in pairs]
    reached = max(len(prompt) + len(response) for prompt, response in pairs)
    texts = late_texts(prompts, decisions, reached + more)
    assert bool(texts) == (more > 0) == bool(unreached(prompts, decisions, reached + more))
    ends = [len(text.prompt) + len(text.tokens) for text in texts]
    assert ends == sorted(ends)
    assert ends[-1:] == [reached + more] * (more > 0)
    assert len(texts) <= TEXTS
    for text in texts:
        assert len(text.prompt) >= reached
        assert 1 <= len(text.tokens) <= STEPS
    whole = [token for pair in pairs * 700 for part in pair for token in part]
    assert all([*text.prompt, *text.tokens][: len(pairs[0][0])] == whole[: len(pairs[0][0])] for text in texts[:1])


def replayed(ours: np.ndarray, noisy: np.ndarray, theirs: np.ndarray) -> LateReplayer:
    replayer = LateReplayer(Vocabulary(dict.fromkeys(range(SIZE), b"x")))
    replayer.add(LateText([0], [0] * len(theirs)), list(ours), list(noisy), list(theirs))
    return replayer


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.0, 1.0))
def test_rounding_that_shakes_both_alike_is_no_fault_and_other_logits_are_one(seed: int, noise: float) -> None:
    source = np.random.default_rng(seed)
    theirs = source.normal(0, 4, (192, SIZE))
    ours, noisy, others = (theirs + source.normal(0, noise, theirs.shape) for _ in range(3))
    assert late_faults(replayed(ours, noisy, theirs).result(1.0)) == []
    others[96:] = source.normal(0, 4, (96, SIZE))
    (fault,) = late_faults(replayed(others, noisy, theirs).result(1.0))
    assert fault.startswith("lowering: at positions 1 to 193, which no prompt reached, ")


def test_logits_of_another_size_and_logits_that_are_no_numbers_are_found() -> None:
    theirs = np.eye(SIZE)[:4] * 9
    wider = np.concatenate([theirs, np.full((4, 1), 20.0)], 1)
    replayer = LateReplayer(Vocabulary(dict.fromkeys(range(SIZE + 1), b"x")))
    replayer.add(LateText([0], [0] * 4), list(wider), list(theirs), list(theirs))
    assert replayer.lost == [math.inf] * 4
    with pytest.raises(BadLogits):
        replayed(np.full((4, SIZE), np.nan), theirs, theirs)


def test_one_choice_that_is_far_off_is_no_fault_and_two_are() -> None:
    theirs = np.eye(SIZE)[np.arange(98) % SIZE] * 9
    for broken in (1, 2):
        ours = theirs.copy()
        ours[:broken] = -ours[:broken]
        faults = late_faults(replayed(ours, theirs, theirs).result(1.0))
        assert bool(faults) == (broken > 1), faults
