"""The device model behind a session: any step model, which may be stopped between tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from edgekit.cloud.request import Message
from edgekit.errors import EdgekitError, ErrorKind
from edgekit.hybrid.stop import Stop, Stopped
from edgekit.routing.decode_loop import DecodeSession, decode, has_room
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.step_model import Logits, StepModel
from edgekit.routing.turns import BadTurns
from edgekit.routing.vocabulary import Vocabulary

T = TypeVar("T")


class TooLong(EdgekitError):
    """A prompt that does not fit in the device model's context."""

    kind = ErrorKind.TOO_LONG


@dataclass(frozen=True)
class Device:
    """``model`` with what decodes its text. It decodes one prompt at a time, first come first, in its own thread."""

    model: StepModel
    routing: RoutingSpec
    vocabulary: Vocabulary
    encode: Callable[[str], list[int]]
    encode_turns: Callable[[Sequence[Message]], list[int]] | None = None
    thread: DeviceThread = field(default_factory=lambda: DeviceThread())

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
        stop: Stop | None = None,
    ) -> Decision:
        """Decode greedily; ``marker_bias`` None means routing.json's, -inf forbids calling.

        ``max_new_tokens`` may only lower routing.json's.

        Raises :class:`Stopped` within a token of ``stop``, and whatever the runtime raises.
        """
        stop = stop or Stop()
        model, spec = _Stoppable(self.model, stop), self.routing
        if max_new_tokens is not None:
            spec = spec.model_copy(update={"max_new_tokens": min(max_new_tokens, spec.max_new_tokens)})
        session = DecodeSession(spec, self.vocabulary, len(ids), model.context_length, marker_bias, on_text)
        return self.thread.run(lambda: decode(model, ids, session), stop)


class DeviceThread:
    """Runs calls one at a time, first come first, all in one thread.

    Threads that took turns at the model would each keep what its libraries make for every thread that computes: a
    team of OpenMP's workers, an arena of memory.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="device")

    def run(self, call: Callable[[], T], stop: Stop) -> T:
        """What ``call`` returns or raises; :class:`Stopped` if ``stop`` is set before its turn has come.

        Whoever is interrupted in here sets ``stop``.
        """
        future = None
        try:
            future = self._pool.submit(call)
            stop.tell(future.cancel)
            return future.result()
        except CancelledError:
            raise Stopped from None
        except BaseException:
            if future is None or not future.done():
                stop.set()
            raise


class _Stoppable:
    """``model``, looking at ``stop`` before each step."""

    def __init__(self, model: StepModel, stop: Stop) -> None:
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
