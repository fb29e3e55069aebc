"""Requests under way: each in a thread of its own, its events told to the loop; consent asked and answered."""

from __future__ import annotations

import asyncio
import functools
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from edgekit.cloud.request import CloudRequest, Message
from edgekit.hybrid.events import CloudText, DeviceText, Event, HybridAnswer
from edgekit.hybrid.session import HybridSession
from edgekit.hybrid.stop import Stop, Stopped

FRAME_S = 1 / 60
"""The time between two pictures on a screen."""


class Busy(Exception):
    """As many requests as allowed are under way."""


@dataclass
class Running:
    """One request. ``name`` is its public id."""

    messages: tuple[Message, ...]
    max_new_tokens: int | None
    can_consent: bool
    name: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    stop: Stop = field(default_factory=Stop)
    decided: threading.Event = field(default_factory=threading.Event)
    allowed: bool = False

    def leave(self) -> None:
        """Nobody waits for the answer any more."""
        self.stop.set()
        self.decided.set()


class Runner:
    """Runs requests on ``session``: at most ``limit`` under way, waiting ones included."""

    def __init__(self, session: HybridSession, limit: int, consent_s: float) -> None:
        self.session, self.limit, self.consent_s = session, limit, consent_s
        self.running: dict[str, Running] = {}
        self._pool = ThreadPoolExecutor(limit, thread_name_prefix="request")

    async def answer(self, request: Running) -> HybridAnswer:
        """The answer to ``request``, nobody told of what happens meanwhile. Cancelling it stops the request.

        Raises :class:`Busy`, and what :meth:`HybridSession.ask` raises.
        """
        done = self._begin(request, None)
        try:
            return await asyncio.shield(done)
        finally:
            request.leave()

    async def run(self, request: Running) -> AsyncIterator[Event | HybridAnswer]:
        """The events of ``request`` and at last its answer. Leaving the iteration stops the request.

        Text that comes within :data:`FRAME_S` is told as one piece: no screen shows more, and each piece is a write.
        Raises as :meth:`answer` does.
        """
        told: deque[Event] = deque()
        some, wake = asyncio.Event(), asyncio.get_running_loop().call_soon_threadsafe
        wanted = True

        def tell(event: Event) -> None:
            nonlocal wanted
            told.append(event)
            if wanted:
                wanted = False
                wake(some.set)

        done = self._begin(request, tell)
        done.add_done_callback(lambda _: some.set())
        try:
            while True:
                await some.wait()
                some.clear()
                ended = done.done()  # before the row is emptied: all that was told before the end is in it
                for event in joined(told):
                    yield event
                if ended:
                    break
                await asyncio.wait((done,), timeout=FRAME_S)
                wanted = True
                if told or done.done():
                    some.set()
            yield done.result()
        finally:
            request.leave()

    def _begin(self, request: Running, on_event: Callable[[Event], None] | None) -> asyncio.Future[HybridAnswer]:
        """``request`` in a thread of its own, which mostly waits: for the device's turn, for consent, for the cloud."""
        if len(self.running) >= self.limit:
            raise Busy
        self.running[request.name] = request
        ask = functools.partial(
            self.session.ask,
            request.messages,
            on_event=on_event,
            ask_user=lambda shown: self._ask(request, shown),
            stop=request.stop,
            max_new_tokens=request.max_new_tokens,
        )
        done = asyncio.get_running_loop().run_in_executor(self._pool, ask)
        # Not after a wait for it: a client that goes away cancels every wait, and its place must be free all the same.
        done.add_done_callback(lambda ended: self._end(request, ended))
        return done

    def _end(self, request: Running, ended: asyncio.Future[HybridAnswer]) -> None:
        del self.running[request.name]
        ended.exception()  # nobody may be left to be told

    def consent(self, name: str, allow: bool) -> bool:
        """The user's word on a request that waits for it; False if there is none of that name."""
        request = self.running.get(name)
        if request is None or request.decided.is_set():
            return False
        request.allowed = allow
        request.decided.set()
        return True

    def close(self) -> None:
        """Stop what runs."""
        for request in list(self.running.values()):
            request.leave()
        self._pool.shutdown(wait=True)

    def _ask(self, request: Running, shown: CloudRequest) -> bool:
        """Wait for the user's word. Nobody there to give it, or no word in time: no."""
        if not request.can_consent:
            return False
        answered = request.decided.wait(self.consent_s)
        if request.stop.is_set():
            raise Stopped
        request.decided.set()
        return answered and request.allowed


def joined(told: deque[Event]) -> Iterator[Event]:
    """Take all events from ``told``; neighbouring pieces of text of one side become one."""
    while told:
        event = told.popleft()
        while isinstance(event, DeviceText | CloudText) and told and type(told[0]) is type(event):
            event = replace(event, text=event.text + told.popleft().text)  # type: ignore[union-attr]
        yield event
