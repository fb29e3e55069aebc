"""The device model behind a session: any step model, which may be stopped between tokens."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from edgekit.cloud.request import Message
from edgekit.errors import EdgekitError, ErrorKind
from edgekit.routing.decode_loop import DecodeSession, decode, has_room
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.step_model import Logits, StepModel
from edgekit.routing.turns import BadTurns
from edgekit.routing.vocabulary import Vocabulary

WAIT_SLICE_S = 0.05
"""How soon one who waits for the model hears that the user has gone."""


class Stopped(Exception):
    """The user wants no more of it."""


class TooLong(EdgekitError):
    """A prompt that does not fit in the device model's context."""

    kind = ErrorKind.TOO_LONG


@dataclass(frozen=True)
class Device:
    """``model`` with what decodes its text. It decodes one prompt at a time; threads take turns, first come first."""

    model: StepModel
    routing: RoutingSpec
    vocabulary: Vocabulary
    encode: Callable[[str], list[int]]
    encode_turns: Callable[[Sequence[Message]], list[int]] | None = None
    turns: Turns = field(default_factory=lambda: Turns())

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids that the model continues. Raises :class:`TooLong`, :class:`BadTurns`."""
        if len(messages) == 1 and messages[0].role == "user":
            ids = self.encode(messages[0].content)
        elif self.encode_turns is not None:
            ids = self.encode_turns(messages)
        else:
            raise BadTurns(
                "several turns: this policy has no chat template. It was trained on single prompts. Send one message."
            )
        if not has_room(len(ids), self.model.context_length):
            room = self.model.context_length - 1
            raise TooLong(f"prompt too long: {len(ids)} tokens. The device's model takes {room}. Shorten it.")
        return ids

    def decide(
        self,
        ids: Sequence[int],
        *,
        marker_bias: float | None = None,
        max_new_tokens: int | None = None,
        on_text: Callable[[str], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Decision:
        """Decode greedily; ``marker_bias`` None means routing.json's, -inf forbids calling.

        ``max_new_tokens`` may only lower routing.json's.

        Raises :class:`Stopped` within a token of ``stop``, and whatever the runtime raises.
        """
        model = self.model if stop is None else _Stoppable(self.model, stop)
        length, spec = self.model.context_length, self.routing
        if max_new_tokens is not None:
            spec = spec.model_copy(update={"max_new_tokens": min(max_new_tokens, spec.max_new_tokens)})
        with self.turns.take(stop):
            session = DecodeSession(spec, self.vocabulary, len(ids), length, marker_bias, on_text)
            return decode(model, ids, session)


class Turns:
    """A lock that goes to whoever waits longest (threading's may starve one)."""

    def __init__(self) -> None:
        self._lock, self._waiting, self._taken = threading.Lock(), deque[threading.Event](), False

    @contextmanager
    def take(self, stop: threading.Event | None) -> Iterator[None]:
        """Wait for the turn. Raises :class:`Stopped` if ``stop`` is set meanwhile."""
        mine = threading.Event()
        with self._lock:
            if self._taken:
                self._waiting.append(mine)
            else:
                self._taken = True
                mine.set()
        try:
            while not mine.wait(WAIT_SLICE_S if stop is not None else None):
                if stop is not None and stop.is_set() and self._left(mine):
                    raise Stopped
            yield
        finally:
            if mine.is_set():
                self._next()

    def _left(self, mine: threading.Event) -> bool:
        """Leave the row; False if the turn came at the same moment."""
        with self._lock:
            if mine.is_set():
                return False
            self._waiting.remove(mine)
            return True

    def _next(self) -> None:
        with self._lock:
            self._taken = bool(self._waiting)
            if self._waiting:
                self._waiting.popleft().set()


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
