"""Requests under way: each in a thread of its own, its events told to the loop; consent asked and answered."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from edgekit.cloud.request import CloudRequest, Message
from edgekit.hybrid.device import Stopped
from edgekit.hybrid.events import Event, HybridAnswer
from edgekit.hybrid.session import HybridSession


class Busy(Exception):
    """As many requests as allowed are under way."""


@dataclass
class Running:
    """One request. ``name`` is its public id."""

    messages: tuple[Message, ...]
    max_new_tokens: int | None
    can_consent: bool
    name: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    stop: threading.Event = field(default_factory=threading.Event)
    decided: threading.Event = field(default_factory=threading.Event)
    allowed: bool = False


class Runner:
    """Runs requests on ``session``: at most ``limit`` under way, waiting ones included."""

    def __init__(self, session: HybridSession, limit: int, consent_s: float) -> None:
        self.session, self.limit, self.consent_s = session, limit, consent_s
        self.running: dict[str, Running] = {}
        self._pool = ThreadPoolExecutor(limit, thread_name_prefix="request")

    async def run(self, request: Running) -> AsyncIterator[Event | HybridAnswer]:
        """The events of ``request`` and at last its answer. Leaving the iteration stops the request.

        Raises :class:`Busy`, and what :meth:`HybridSession.ask` raises.
        """
        if len(self.running) >= self.limit:
            raise Busy
        self.running[request.name] = request
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | HybridAnswer | BaseException] = asyncio.Queue()

        def tell(event: Event | HybridAnswer | BaseException) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        def work() -> None:
            try:
                tell(
                    self.session.ask(
                        request.messages,
                        on_event=tell,
                        ask_user=lambda shown: self._ask(request, shown),
                        stop=request.stop,
                        max_new_tokens=request.max_new_tokens,
                    )
                )
            except BaseException as error:
                tell(error)

        done = loop.run_in_executor(self._pool, work)
        # Not after the wait below: a client that goes away cancels every wait, and its place must be free all the same.
        done.add_done_callback(lambda _: self.running.pop(request.name, None))
        try:
            while True:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, HybridAnswer):
                    return
        finally:
            request.stop.set()
            request.decided.set()
            await asyncio.shield(done)

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
            request.stop.set()
            request.decided.set()
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
