"""The device model behind a session: any step model, which may be stopped between tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.cloud.request import Message
from edgekit.errors import EdgekitError, ErrorKind
from edgekit.routing.decode_loop import DecodeSession, Logits, StepModel, decode
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary


class Stopped(Exception):
    """The user wants no more of it."""


class TooLong(EdgekitError):
    """A prompt that does not fit in the device model's context."""

    kind = ErrorKind.TOO_LONG


class NoChatTemplate(EdgekitError):
    """Several turns, and a policy that knows one prompt only."""


@dataclass(frozen=True)
class Device:
    """``model`` with what decodes its text. One prompt at a time: a caller with several threads takes turns."""

    model: StepModel
    routing: RoutingSpec
    vocabulary: Vocabulary
    encode: Callable[[str], list[int]]
    encode_turns: Callable[[Sequence[Message]], list[int]] | None = None

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids that the model continues. Raises :class:`TooLong`, :class:`NoChatTemplate`."""
        if len(messages) == 1:
            ids = self.encode(messages[0].content)
        elif self.encode_turns is not None:
            ids = self.encode_turns(messages)
        else:
            raise NoChatTemplate(
                "several turns: this policy has no chat template. It was trained on single prompts. Send one message."
            )
        if len(ids) >= self.model.context_length:
            room = self.model.context_length - 1
            raise TooLong(f"prompt too long: {len(ids)} tokens. The device's model takes {room}. Shorten it.")
        return ids

    def decide(
        self,
        ids: Sequence[int],
        *,
        marker_bias: float | None = None,
        on_text: Callable[[str], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Decision:
        """Decode greedily; ``marker_bias`` None means routing.json's, -inf forbids calling.

        Raises :class:`Stopped` within a token of ``stop``, and whatever the runtime raises.
        """
        model = self.model if stop is None else _Stoppable(self.model, stop)
        length = self.model.context_length
        session = DecodeSession(self.routing, self.vocabulary, len(ids), length, marker_bias, on_text)
        return decode(model, ids, session)


class _Stoppable:
    """``model``, looking at ``stop`` before each step."""

    def __init__(self, model: StepModel, stop: threading.Event) -> None:
        self._model, self._stop = model, stop
        self.context_length = model.context_length

    def reset(self) -> None:
        self._model.reset()

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        self._check()
        return self._model.prefill(token_ids)

    def decode(self, token_id: int) -> Logits:
        self._check()
        return self._model.decode(token_id)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped
