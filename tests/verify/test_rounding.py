"""What rounding explains: a prompt that shakes excuses its like, and no damage elsewhere."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.bundle.load import open_bundle
from edgekit.policy.reference import ReferenceModel
from edgekit.verify import expected
from edgekit.verify.check import verify_bundle
from edgekit.verify.rounding import within_reach


@settings(max_examples=30)
@given(st.integers(8, 60), st.floats(1.0, 15.0), st.floats(16.0, 1e6), st.integers(0, 2**31))
def test_one_prompt_that_shakes_does_not_hide_what_flips_on_many(
    flipped: int, depth: float, outlier: float, seed: int
) -> None:
    source = random.Random(seed)
    flips = [depth] * flipped + [0.0] * (200 - flipped)
    shifts = [outlier] + [source.uniform(0, 0.1) for _ in range(199)]
    source.shuffle(flips)
    assert depth < max(shifts)  # the largest shift alone would explain them all
    assert within_reach(flips, shifts, 1.0) <= depth


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=60))
def test_no_flip_beyond_what_rounding_moved_at_all_is_explained_and_none_below_the_margin_is_judged(pairs) -> None:
    flips, shifts = [flip for flip, _ in pairs], [shift for _, shift in pairs]
    assert 1.0 <= within_reach(flips, shifts, 1.0) <= max(1.0, *shifts)
    assert within_reach(shifts, shifts, 1.0) == max(1.0, *shifts)  # what flips just where the reference shakes
    assert within_reach(flips, [], 1.0) == 1.0


@pytest.mark.parametrize("spread", [0.5, 1.5, 2.5])
def test_an_artifact_that_only_rounds_otherwise_is_excused_as_by_the_largest_shift(spread: float) -> None:
    """Prompts differ in how far rounding moves them, some by far; artifact and reference are drawn alike."""
    source, refused = random.Random(5), 0
    for _ in range(100):
        flips, shifts = [], []
        for _ in range(150):
            margin, sensitivity = source.gauss(-2, 4), source.lognormvariate(-1, spread)
            moved = margin + source.gauss(0, sensitivity)
            flips.append(abs(margin) if (moved > 0) != (margin > 0) else 0.0)
            shifts.append(abs(source.gauss(0, sensitivity)))
        refused += within_reach(flips, shifts, 1.0) < max(1.0, *shifts)
    assert refused <= 2


@pytest.mark.slow
def test_a_bundle_whose_flips_one_shaken_prompt_would_explain_is_a_mismatch(
    tiny_bundle_folder, policy, problems, monkeypatch
) -> None:
    (marker,) = policy.routing.marker.token_ids[0]
    check = sys.modules[verify_bundle.__module__]
    shaken = expected.with_scaled_norms(policy)
    outlier = policy.encode(problems[0].prompt)

    def forced(which, ids, tokens):
        rows = expected.forced_logits(which, ids, tokens)
        if which is shaken and list(ids) == outlier:
            rows = [np.where(np.arange(len(row)) == marker, row - 40, row) for row in rows]
        return rows

    monkeypatch.setattr(check, "with_scaled_norms", lambda _: shaken)
    monkeypatch.setattr(check, "forced_logits", forced)
    sound = ReferenceModel(policy.model)
    sound.runtime = "torch"
    report = verify_bundle(open_bundle(tiny_bundle_folder), policy, problems, None, None, model=sound)
    assert report.faults == []
    prefill = sound.prefill
    sound.prefill = lambda ids: prefill(ids) + 3 * (np.arange(policy.model.config.vocab_size) == marker)
    damaged = verify_bundle(open_bundle(tiny_bundle_folder), policy, problems, None, None, model=sound)
    assert any("replayed decisions flipped far from the margin" in fault for fault in damaged.faults), damaged.faults
