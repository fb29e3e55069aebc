"""The positions after those that any prompt reached: a rotary table, a mask or a cache may be wrong from there on.

A few texts are made of the prompts and the quantized reference's responses to them, one after another, and are fed to
the artifact so that they end at places spread over the rest of the context, the last at its end. Each is read at once
up to its last steps, and these token by token, as a phone reads a prompt and writes a response.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, cycle, islice, pairwise
from typing import Any

import numpy as np

from edgekit.routing.decode_loop import check_logits
from edgekit.routing.decoder import Decision
from edgekit.routing.step_model import Logits
from edgekit.routing.vocabulary import Vocabulary
from edgekit.verify.judge import Change
from edgekit.verify.rounding import within_reach

TEXTS, STEPS = 4, 48
OTHER_CHOICES, BROKEN_CHOICES = 0.15, 0.01
"""The shares of late choices that may differ at all (nothing was trained there, near ties are many), and be broken.

One broken choice is no fault, however few the steps are.
"""


@dataclass(frozen=True)
class LateText:
    """``prompt`` is read at once, ``tokens`` one by one, but for the last: nothing comes after it."""

    prompt: list[int]
    tokens: list[int]


@dataclass(frozen=True)
class LateReplay:
    """What the artifact chooses at positions from ``begin`` to ``end``, in so many ``texts``.

    ``other``: the share of choices that are not the quantized reference's, before: with the reference's own norms
    scaled by 1 + 1e-6, after: of the artifact. ``broken``: choices that the reference puts so much lower than its own
    that rounding does not explain them.
    """

    begin: int
    end: int
    texts: int
    other: Change
    broken: int

    @property
    def steps(self) -> int:
        """How many choices were compared."""
        return self.other.n

    def to_json(self) -> dict[str, Any]:
        """The replay as JSON data."""
        return {
            "begin": self.begin, "end": self.end, "texts": self.texts, "steps": self.steps, "broken": self.broken,
            "choice_agreement": 1 - self.other.after, "choice_agreement_noise_floor": 1 - self.other.before,
        }  # fmt: skip


def positions_reached(prompts: Sequence[Sequence[int]], decisions: Sequence[Decision]) -> int:
    """How many positions of the context the longest of ``prompts`` takes with its response."""
    return max(len(ids) + len(made.token_ids) for ids, made in zip(prompts, decisions, strict=True))


def late_texts(prompts: Sequence[Sequence[int]], decisions: Sequence[Decision], context_length: int) -> list[LateText]:
    """Texts that end after the positions which ``prompts`` reached; none where these reach the context's end."""
    reached, texts = positions_reached(prompts, decisions), []
    written = [[*ids, *made.token_ids] for ids, made in zip(prompts, decisions, strict=True)]
    places = np.linspace(reached, context_length, TEXTS + 1).astype(int).tolist()
    for number, (begin, end) in enumerate(pairwise(places)):
        first = number * len(written) // TEXTS
        text = list(islice(chain.from_iterable(cycle([*written[first:], *written[:first]])), end))
        steps = min(STEPS, end - begin)
        if steps > 0:
            texts.append(LateText(text[:-steps], text[-steps:]))
    return texts


@dataclass
class LateReplayer:
    """Gathers a :class:`LateReplay`, text by text. ``lost``: by how much the reference puts what the artifact chooses
    lower than its own choice; ``shifts``: by how much rounding alone moved two of its logits apart. A step each.
    """

    vocabulary: Vocabulary
    texts: list[LateText] = field(default_factory=list)
    others: list[tuple[bool, bool]] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    shifts: list[float] = field(default_factory=list)

    def add(self, text: LateText, ours: Sequence[Logits], noisy: Sequence[Logits], theirs: Sequence[Logits]) -> None:
        """``ours``, ``noisy``, ``theirs``: logits (vocab,) before each token of the artifact, of the reference shaken
        by rounding, and of the reference.

        Raises :class:`BadLogits` for logits of the artifact that are no numbers.
        """
        self.texts.append(text)
        for position, (row, shaken, reference) in enumerate(zip(ours, noisy, theirs, strict=True)):
            check_logits(row, position, 0)
            best, chosen, by_noise = (self._choice(each) for each in (reference, row, shaken))
            self.others.append((by_noise != best, chosen != best))
            self.lost.append(float(reference[best] - reference[chosen]) if chosen < len(reference) else math.inf)
            self.shifts.append(float(np.ptp(shaken - reference)))

    def result(self, near_margin: float) -> LateReplay | None:
        """The replay; None without a text. No choice that loses less than ``near_margin`` is broken."""
        if not self.texts:
            return None
        begin = min(len(text.prompt) for text in self.texts)
        end = max(len(text.prompt) + len(text.tokens) for text in self.texts)
        noise, ours = ([pair[side] for pair in self.others] for side in (0, 1))
        reach = within_reach(self.lost, self.shifts, near_margin)
        broken = sum(lost >= reach for lost in self.lost)
        return LateReplay(begin, end, len(self.texts), Change.of(noise, ours), broken)

    def _choice(self, row: Logits) -> int:
        choosable = np.array(row, np.float32)
        choosable[self.vocabulary.without_token(len(row))] = -np.inf
        return int(choosable.argmax())


def late_faults(late: LateReplay | None) -> list[str]:
    """A line if the artifact chooses otherwise than the reference, and than rounding would, where no prompt reached."""
    if late is None:
        return []
    differs = late.other.is_significant and late.other.value > OTHER_CHOICES
    if not differs and late.broken <= max(1, BROKEN_CHOICES * late.steps):
        return []
    agree = f"{100 * (1 - late.other.after):.1f} % of {late.steps} choices agree, {late.broken} are far off"
    rounding = f"rounding alone leaves {100 * (1 - late.other.before):.1f} %"
    return [f"lowering: at positions {late.begin} to {late.end}, which no prompt reached, {agree}; {rounding}"]


def unreached(prompts: Sequence[Sequence[int]], decisions: Sequence[Decision], context_length: int) -> list[str]:
    """A line if there are positions that nothing ran, since only the weights say what is right there."""
    reached = positions_reached(prompts, decisions)
    if reached >= context_length:
        return []
    where = f"the recorded prompts and responses reach {reached} of the context's {context_length} positions"
    return [f"{where}: what is wrong later is seen with --reference only"]
