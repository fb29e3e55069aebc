"""The one decode loop: greedy decoding of a policy with the routing-token decoder watching.

Training-time evaluation, the PyTorch reference, every simulator and ``edgekit run`` use it. A
:class:`DecodeSession` holds one prompt's state, so a caller with many prompts can step them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgekit.errors import BadLogits, EdgekitError, ErrorKind
from edgekit.routing.decision_rule import calls, contest, largest_margin
from edgekit.routing.decoder import Decision, RoutingDecoder
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.step_model import Logits, StepModel
from edgekit.routing.vocabulary import Vocabulary


@dataclass
class DecodeSession:
    """One prompt being decoded greedily. ``marker_bias`` None means the spec's; -inf forbids calling.

    Whether to call is decided at a marker's first token that the policy would not write by itself, or at its last: up
    to there the policy's own text is its own. Called, the rest of the marker is written without asking the model, so
    a bias decides exactly where margin + bias passes 0, however many tokens the marker has. Elsewhere the marker's
    tokens are text.
    """

    spec: RoutingSpec
    vocabulary: Vocabulary
    prompt_tokens: int
    context_length: int
    marker_bias: float | None = None
    on_text: Callable[[str], None] | None = None
    margins: list[tuple[int, float]] = field(default_factory=list)
    logits: list[Logits] | None = None
    would_call: bool = False
    _weakest: float = float("inf")
    _shown: int = 0

    def __post_init__(self) -> None:
        room = self.context_length - self.prompt_tokens
        if not has_room(self.prompt_tokens, self.context_length):
            raise EdgekitError(
                f"prompt too long: {self.prompt_tokens} tokens. The context holds {self.context_length}. Shorten it.",
                ErrorKind.TOO_LONG,
            )
        self._limit = min(self.spec.max_new_tokens, room)
        self._bias = self.spec.marker_bias if self.marker_bias is None else self.marker_bias
        self._decoder = RoutingDecoder(self.spec, self.vocabulary)

    def advance(self, logits: Logits) -> int | None:
        """Choose the next token from ``logits`` (vocab,); None when the response has ended.

        Raises :class:`BadLogits` for logits that are no numbers, or too few of them.
        """
        if self.logits is not None:
            self.logits.append(np.array(logits, np.float32))
        chosen = self._choose(logits)
        return chosen[-1] if self._write(chosen) else None

    def follow(self, logits: Logits, token: int) -> tuple[int, ...]:
        """What would be chosen from ``logits``, ``would_call`` says whether to call; ``token`` is written instead."""
        chosen = self._choose(logits)
        if chosen[0] != token:
            self._weakest = float("inf")
        self._write((token,))
        return chosen

    def take(self, token: int) -> bool:
        """Write a token that was chosen before, from logits that are gone; whether the response goes on."""
        self._weakest = float("inf")
        return self._write((token,))

    @property
    def token_ids(self) -> Sequence[int]:
        """What is written so far."""
        return self._decoder.token_ids

    def _write(self, chosen: tuple[int, ...]) -> bool:
        """Write ``chosen``; whether the response goes on."""
        shown = "".join(self._decoder.push(token) for token in chosen)
        self._shown += len(shown)
        if shown and self.on_text is not None:
            self.on_text(shown)
        return not self._decoder.done and len(self._decoder.token_ids) < self._limit

    def decision(self) -> Decision:
        """The decision, after ``advance`` returned None; ``on_text`` gets what was still held back."""
        decision = self._decoder.finish()
        rest = decision.text[self._shown :]
        if rest and self.on_text is not None:
            self.on_text(rest)
        self._shown = len(decision.text)
        return replace(
            decision,
            marker_margin=largest_margin(self.margins, self._bias),
            prompt_tokens=self.prompt_tokens,
            margins=tuple(self.margins),
        )

    def _choose(self, logits: Logits) -> tuple[int, ...]:
        """The next token, or all that is missing of the marker where the policy calls."""
        self.would_call = False
        position = len(self._decoder.token_ids)
        open_markers = self._decoder.open_markers(self._limit - position)
        check_logits(logits, position, max(open_markers, default=0))
        without_token = self.vocabulary.without_token(len(logits))
        if len(without_token):
            logits = np.array(logits, np.float32)
            logits[without_token] = -np.inf
            check_logits(logits, position, 0)
        if not open_markers:
            self._weakest = float("inf")
            return (int(logits.argmax()),)
        found = contest(logits, list(open_markers))
        marker, margin = int(found.marker), float(found.margin)
        self._weakest = min(self._weakest, margin)
        if margin > 0 and open_markers[marker]:
            return (marker,)  # its own next word; whether that is a call is decided later
        decided, self._weakest = self._weakest, float("inf")
        self.margins.append((position, decided))
        if not calls(decided, self._bias):
            return (int(found.other),)
        self.would_call = True
        return completion(open_markers)


def has_room(prompt_tokens: int, context_length: int) -> bool:
    """Whether a prompt leaves its response room in the context."""
    return prompt_tokens < context_length


def too_long(prompt_tokens: int) -> Decision:
    """What becomes of a prompt without room: the cloud gets it, whatever the marker's bias."""
    return Decision("cloud", "too_long", "", None, (), prompt_tokens=prompt_tokens)


def device_failed(prompt_tokens: int) -> Decision:
    """What becomes of a prompt on which the device's model failed: the cloud gets it."""
    return Decision("cloud", "device_failed", "", None, (), prompt_tokens=prompt_tokens)


def completion(open_markers: dict[int, tuple[int, ...]]) -> tuple[int, ...]:
    """What is written of a marker once the policy calls: the shortest there is, of several the first listed.

    Nothing where none is open, as a falsified record may claim.
    """
    return min(((following, *rest) for following, rest in open_markers.items()), key=len, default=())


def check_logits(logits: Logits, position: int, largest_id: int) -> None:
    """Raise :class:`BadLogits` unless ``logits`` (vocab,) can be chosen from; -inf stands for ids never chosen."""
    where = f"bad logits: token {position} of the response."
    if logits.ndim != 1 or len(logits) <= largest_id:
        raise BadLogits(f"{where} Their shape is {logits.shape}, the marker has id {largest_id}. Export again.")
    if not np.isfinite(logits.max()):  # NaN wins every maximum
        raise BadLogits(f"{where} They are not all numbers. The weights or the runtime are broken. Export again.")


def decode(model: StepModel, prompt_ids: Sequence[int], session: DecodeSession) -> Decision:
    """Decode one prompt on ``model`` from an empty cache."""
    model.reset()
    token = session.advance(model.prefill(prompt_ids))
    while token is not None:
        token = session.advance(model.decode(token))
    return session.decision()
