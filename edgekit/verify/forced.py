"""Replay: the quantized reference's own tokens fed to the artifact, so that each of its choices is compared given the
same text (teacher forcing). Free decoding cannot tell a broken artifact from a near tie early in a long text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgekit.routing.decode_loop import DecodeSession
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.step_model import Logits, StepModel
from edgekit.routing.vocabulary import Vocabulary

LEAST_MARGINS = 20
LEFT_OUT = 0.01
"""The share of the margins that bear most on their slope, and are not asked: one that shook says nothing of all."""


@dataclass(frozen=True)
class Replay:
    """How far the artifact agrees with the quantized reference given the reference's own text.

    decision_agreement: share of prompts with the same route. choice_agreement: share of the ``steps`` at which it
    chooses the same token, or alike to call. max_abs_logit_diff: None without the reference's weights.
    broken: decisions to call that differ although the reference's margin was not near 0.
    margin_scale: how many times the reference's its margins are, and the error of that; None with too few of them.
    """

    decision_agreement: float
    choice_agreement: float
    steps: int
    broken: int
    max_abs_logit_diff: float | None
    margin_scale: tuple[float, float] | None = None

    def to_json(self) -> dict[str, object]:
        """The replay as JSON data."""
        return dict(vars(self))


@dataclass
class Replayer:
    """Gathers a :class:`Replay`, prompt by prompt, at ``marker_bias``."""

    spec: RoutingSpec
    vocabulary: Vocabulary
    context_length: int
    marker_bias: float
    prompts: int = 0
    same_route: int = 0
    steps: int = 0
    same_choice: int = 0
    flips: list[float] = field(default_factory=list)
    margins: list[tuple[float, float]] = field(default_factory=list)
    largest_difference: float | None = None
    farthest_flips: list[float] = field(default_factory=list)
    largest_shifts: list[float] = field(default_factory=list)
    """A prompt each: how far from the threshold a decision flipped (0: none did), how far a margin moved."""

    def add(
        self, prompt_tokens: int, expected: Decision, rows: Sequence[Logits], theirs: Sequence[Logits] | None = None
    ) -> None:
        """One prompt that ``expected`` decided at ``marker_bias``; ``rows``: the artifact's logits of each step of it.

        ``theirs``: the reference's, to be compared value by value.
        """
        session = DecodeSession(self.spec, self.vocabulary, prompt_tokens, self.context_length, self.marker_bias)
        tokens, position, called = expected.token_ids, 0, False
        while position < len(tokens):
            chosen = session.follow(rows[position], tokens[position])
            self.steps += 1
            same = tokens[position : position + len(chosen)] == chosen
            self.same_choice += same
            called = called or session.would_call
            position += len(chosen) if same else 1
        self.prompts += 1
        # A response that goes to the cloud for want of an answer goes there whatever is chosen along it.
        self.same_route += called if expected.reason == "marker" else expected.called or not called
        ours, flips, shift = dict(session.margins), [], 0.0
        for place, margin in expected.margins:
            if place in ours:
                self.margins.append((margin, ours[place]))
                shift = max(shift, abs(ours[place] - margin))
                if (ours[place] + self.marker_bias > 0) != (margin + self.marker_bias > 0):
                    flips.append(abs(margin + self.marker_bias))
        self.flips += flips
        self.farthest_flips.append(max(flips, default=0.0))
        self.largest_shifts.append(shift)
        if theirs is not None:
            differences = (_difference(a, b) for a, b in zip(rows[:position], theirs[:position], strict=False))
            self.largest_difference = max(self.largest_difference or 0.0, max(differences, default=0.0))

    def result(self, near_margin: float) -> Replay:
        """The replay; a decision that differs counts as broken if the margin was at least ``near_margin`` from 0."""
        return Replay(
            decision_agreement=self.same_route / self.prompts,
            choice_agreement=self.same_choice / max(self.steps, 1),
            steps=self.steps,
            broken=sum(margin >= near_margin for margin in self.flips),
            max_abs_logit_diff=self.largest_difference,
            margin_scale=scale_of(self.margins),
        )


def scale_of(pairs: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The slope through 0 of the second of each pair on the first (least squares), and its standard error.

    The error is White's (1980, HC1), since a larger margin errs by more. Those that bear most on it are left out
    (:data:`LEFT_OUT`, at least one). None where fewer than ``LEAST_MARGINS`` are finite: it says too little of so few.
    """
    finite = np.array([pair for pair in pairs if all(map(math.isfinite, pair))], np.float64).reshape(-1, 2)
    if len(finite) < LEAST_MARGINS or not finite[:, 0].any():
        return None
    _, pulls = _slope(finite)
    kept = finite[np.argsort(np.abs(pulls))[: len(finite) - math.ceil(LEFT_OUT * len(finite))]]
    size = float(kept[:, 0] @ kept[:, 0])
    if size == 0:
        return None
    slope, left = _slope(kept)
    return slope, math.sqrt(float(left @ left) * len(kept) / (len(kept) - 1)) / size


def _slope(pairs: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """The slope through 0 of ``pairs`` (n, 2), and how each pulls at it (n,)."""
    theirs, ours = pairs.T
    slope = float(theirs @ ours) / float(theirs @ theirs)
    return slope, theirs * (ours - slope * theirs)


def feed(model: StepModel, prompt_ids: Sequence[int], tokens: Sequence[int]) -> list[Logits]:
    """``model``'s logits before each of ``tokens``, which it is fed one by one."""
    model.reset()
    rows = [np.array(model.prefill(prompt_ids), np.float32)]
    rows += [np.array(model.decode(token), np.float32) for token in tokens[:-1]]
    return rows


def _difference(a: Logits, b: Logits) -> float:
    if a.shape != b.shape:
        return math.inf
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b)
    apart[a == b] = 0.0  # both minus infinity
    return float(np.nan_to_num(apart, nan=np.inf).max())
