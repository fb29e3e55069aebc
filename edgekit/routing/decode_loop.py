"""The one decode loop: greedy decoding of a policy with the routing-token decoder watching.

Training-time evaluation, the PyTorch reference, every simulator and ``edgekit run`` use it. A
:class:`DecodeSession` holds one prompt's state, so a caller with many prompts can step them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import EdgekitError
from edgekit.routing.decoder import Decision, RoutingDecoder
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary

Logits = NDArray[np.float32]


class StepModel(Protocol):
    """A policy that runs token by token with its KV cache inside."""

    context_length: int

    def reset(self) -> None:
        """Forget the KV cache."""

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """Take a whole prompt from position 0; returns the next token's logits, (vocab,) float32."""

    def decode(self, token_id: int) -> Logits:
        """Take one more token; returns the next token's logits, (vocab,) float32."""


@dataclass
class DecodeSession:
    """One prompt being decoded greedily. ``marker_bias`` None means the spec's; -inf forbids calling.

    The bias and the margin concern only the places where a marker would count: elsewhere it is text.
    """

    spec: RoutingSpec
    vocabulary: Vocabulary
    prompt_tokens: int
    context_length: int
    marker_bias: float | None = None
    on_text: Callable[[str], None] | None = None
    marker_margin: float = float("-inf")
    logits: list[Logits] | None = None
    _firsts: NDArray[np.int64] = field(init=False)
    _shown: int = 0

    def __post_init__(self) -> None:
        room = self.context_length - self.prompt_tokens
        if room < 1:
            raise EdgekitError(
                f"prompt too long: {self.prompt_tokens} tokens. The context holds {self.context_length}. Shorten it."
            )
        self._limit = min(self.spec.max_new_tokens, room)
        self._bias = self.spec.marker_bias if self.marker_bias is None else self.marker_bias
        self._firsts = np.array(sorted({ids[0] for ids in self.spec.marker.token_ids}))
        self._decoder = RoutingDecoder(self.spec, self.vocabulary)

    def advance(self, logits: Logits) -> int | None:
        """Choose the next token from ``logits`` (vocab,); None when the response has ended."""
        if self.logits is not None:
            self.logits.append(np.array(logits, np.float32))
        token = int(logits.argmax())
        if self._decoder.marker_counts:
            firsts = self._firsts
            biased = np.array(logits, np.float32)
            biased[firsts] = -np.inf
            best = int(biased.argmax())
            margin = float(logits[firsts].max() - biased[best])
            self.marker_margin = max(self.marker_margin, margin + (0.0 if np.isinf(self._bias) else self._bias))
            token = int(firsts[int(logits[firsts].argmax())]) if margin + self._bias > 0 else best
        shown = self._decoder.push(token)
        self._shown += len(shown)
        if shown and self.on_text is not None:
            self.on_text(shown)
        finished = self._decoder.done or len(self._decoder.token_ids) >= self._limit
        return None if finished else token

    def decision(self) -> Decision:
        """The decision, after ``advance`` returned None; ``on_text`` gets what was still held back."""
        decision = self._decoder.finish()
        rest = decision.text[self._shown :]
        if rest and self.on_text is not None:
            self.on_text(rest)
        self._shown = len(decision.text)
        return replace(decision, marker_margin=self.marker_margin, prompt_tokens=self.prompt_tokens)


def decode(model: StepModel, prompt_ids: Sequence[int], session: DecodeSession) -> Decision:
    """Decode one prompt on ``model`` from an empty cache."""
    model.reset()
    token = session.advance(model.prefill(prompt_ids))
    while token is not None:
        token = session.advance(model.decode(token))
    return session.decision()
