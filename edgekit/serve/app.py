"""The server: OpenAI's chat API over a hybrid session, its numbers, its page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from edgekit.errors import EdgekitError
from edgekit.hybrid.events import CloudText, ConsentWanted, DeviceText, Event, HandOff, HybridAnswer, Restart
from edgekit.hybrid.session import HybridSession
from edgekit.hybrid.stop import Stopped
from edgekit.routing.turns import BadTurns
from edgekit.serve.guard import Guard
from edgekit.serve.metrics import Metrics
from edgekit.serve.openai_api import ChatRequest, chunk, completion, edgekit_facts, problem, usage
from edgekit.serve.refusals import bad_request
from edgekit.serve.running import Busy, Runner, Running

T = TypeVar("T")

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
MOST_LOG_LINES = 200


@dataclass(frozen=True)
class ServeSettings:
    """How a server behaves. ``hosts``: the names it answers to; ``cases``: what the page's slider shows."""

    model: str
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "::1")
    api_key: str | None = None
    queue: int = 64
    consent_s: float = 60.0
    cases: Callable[[], list[dict[str, Any]]] = list


class ConsentWord(BaseModel):
    """The user's word on one request."""

    allow: bool


def create_app(session: HybridSession, settings: ServeSettings) -> Any:
    """The ASGI application, its guard around it."""
    runner, metrics = Runner(session, settings.queue, settings.consent_s), Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(runner.close)

    app = FastAPI(title="edgekit", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(EdgekitError, _failed)
    _add_chat(app, session, settings, runner, metrics)
    _add_numbers(app, session, settings, runner, metrics)
    _add_page(app)
    return Guard(app, settings.hosts, settings.api_key)


def _add_chat(app: FastAPI, session: HybridSession, settings: ServeSettings, runner: Runner, metrics: Metrics) -> None:
    def budget_left() -> dict[str, float] | None:
        with suppress(EdgekitError):  # an answer is not lost because the count behind it cannot be read
            return session.rules.budget.left() if session.rules.budget is not None else None
        return None

    @app.post("/v1/chat/completions", responses={400: {}, 429: {}})
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        running = Running(body.conversation(), body.limit, body.stream and body.edgekit.events)
        events = runner.run(running)
        try:
            first = await _unless_gone(request, anext(events) if body.stream else runner.answer(running))
        except Busy:
            metrics.refused("busy")
            line = f"busy: {runner.limit} requests are under way. No more wait. Ask again soon."
            return JSONResponse(problem(line, "rate_limit_error"), 429, {"Retry-After": "1"})
        except BadTurns as error:
            metrics.refused("turns")
            return JSONResponse(problem(str(error)), 400)
        if first is None:
            metrics.stopped()
            return Response(status_code=499)
        if body.stream:
            stream = Stream(body, running.name, settings.model, budget_left, metrics)
            chunks = stream.lines(first, events)
            return StreamingResponse(chunks, media_type="text/event-stream", headers={"x-edgekit-route": "undecided"})
        assert isinstance(first, HybridAnswer)
        metrics.answered(first)
        data = completion(running.name, settings.model, first, edgekit_facts(first, budget_left()))
        return JSONResponse(data, headers={"x-edgekit-route": first.route})

    @app.post("/v1/edgekit/consent/{name}", responses={404: {}})
    async def consent(name: str, word: ConsentWord) -> Response:
        """Say whether the request of that name may be sent."""
        if runner.consent(name, word.allow):
            return JSONResponse({"name": name, "allow": word.allow})
        return JSONResponse(problem("nobody waits: no such request wants consent."), 404)


def _add_numbers(
    app: FastAPI, session: HybridSession, settings: ServeSettings, runner: Runner, metrics: Metrics
) -> None:
    rules = session.rules

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model."""
        return {"object": "list", "data": [{"id": settings.model, "object": "model", "owned_by": "edgekit"}]}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server is there."""
        return {"status": "ok"}

    @app.get("/metrics")
    async def scrape() -> Response:
        """Numbers for Prometheus."""
        metrics.under_way.set(len(runner.running))
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/edgekit/state")
    async def state() -> dict[str, Any]:
        """What the page shows of the hand-off: who is asked, what is left."""
        budget = rules.budget
        calls, cost = budget.spent() if budget is not None else (None, None)
        return {
            "model": settings.model,
            "cloud": None if session.cloud is None else {"server": session.cloud.server, "model": session.cloud.model},
            "consent": rules.consent,
            "redacts": rules.redactor is not None,
            "budget_left": budget.left() if budget is not None else None,
            "calls": calls,
            "cost_usd": cost,
            "marker_bias": session.device.routing.marker_bias,
        }

    @app.get("/v1/edgekit/log")
    async def log(n: int = 50) -> dict[str, Any]:
        """The youngest lines of the audit log."""
        lines = rules.audit.last(max(1, min(n, MOST_LOG_LINES))) if rules.audit is not None else []
        return {"lines": lines}

    @app.get("/v1/edgekit/cases")
    async def cases() -> dict[str, Any]:
        """The bundle's recorded cases, with what decides each at any bias."""
        return {"cases": settings.cases()}


def _add_page(app: FastAPI) -> None:
    for path, (name, kind) in PAGE_FILES.items():
        file = PAGE / name

        def page(file: Path = file, kind: str = kind) -> FileResponse:
            return FileResponse(file, media_type=kind)

        app.add_api_route(path, page, include_in_schema=False)


async def _invalid(_: Request, error: Exception) -> Response:
    """A body that does not fit, as one line."""
    assert isinstance(error, RequestValidationError)
    return JSONResponse(problem(bad_request(error)), 400)


async def _refused(_: Request, error: Exception) -> Response:
    """What the framework refuses: an unknown path, a body it cannot parse."""
    assert isinstance(error, HTTPException)
    return JSONResponse(problem(f"refused: {error.detail}."), error.status_code)


async def _failed(_: Request, error: Exception) -> Response:
    """What this host cannot do now: a budget's file that cannot be read."""
    return JSONResponse(problem(str(error), "server_error"), 503)


async def _unless_gone(request: Request, coming: Awaitable[T]) -> T | None:
    """What ``coming`` gives; None if it is stopped, as it is when the client goes away."""
    asking, gone = asyncio.ensure_future(coming), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((asking, gone), return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else None
    except Stopped:
        return None
    finally:
        asking.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Stream:
    """One reply as server-sent events.

    A client that did not ask for events gets one text: what the device wrote before a hand-off, then the cloud's on
    a line of its own; after a hand-off that failed, what the device's attempt adds to what was shown.
    """

    def __init__(
        self,
        body: ChatRequest,
        name: str,
        model: str,
        budget_left: Callable[[], dict[str, float] | None],
        metrics: Metrics,
    ) -> None:
        self.body, self.name, self.model, self.budget_left, self.metrics = body, name, model, budget_left, metrics
        self._shown = ""
        self._expected: str | None = None

    async def lines(
        self, first: Event | HybridAnswer, events: AsyncIterator[Event | HybridAnswer]
    ) -> AsyncIterator[str]:
        """``data:`` lines, [DONE] last."""
        yield self._line(chunk(self.name, self.model, {"role": "assistant", "content": ""}))
        finished = False
        try:
            async with aclosing(events):  # type: ignore[type-var]
                for each in self._told(first):
                    yield each
                async for event in events:
                    for each in self._told(event):
                        yield each
            finished = True
            yield "data: [DONE]\n\n"
        finally:
            if not finished:
                self.metrics.stopped()

    def _told(self, event: Event | HybridAnswer) -> Iterable[str]:
        if isinstance(event, HybridAnswer):
            self.metrics.answered(event)
            facts = edgekit_facts(event, self.budget_left())
            yield self._line(chunk(self.name, self.model, {}, "stop", edgekit=facts))
            options = self.body.stream_options
            if options is not None and options.include_usage:
                yield self._line({**chunk(self.name, self.model, {}), "choices": [], "usage": usage(event)})
        elif self.body.edgekit.events:
            yield self._line(self._event(event))
        else:
            text = self._plain(event)
            if text:
                self._shown += text
                yield self._line(chunk(self.name, self.model, {"content": text}))

    def _plain(self, event: Event) -> str:
        """What a client that knows nothing of events is shown."""
        if isinstance(event, HandOff):
            return "\n" if self._shown and not self._shown.endswith("\n") else ""
        if isinstance(event, Restart):
            self._expected = self._shown.removesuffix("\n")
            return ""
        if isinstance(event, DeviceText) and self._expected:
            # The attempt begins as the one before it did: what is on the screen already is not written again.
            common = self._expected if event.text.startswith(self._expected) else event.text
            if self._expected.startswith(common):
                self._expected = self._expected[len(common) :]
                return event.text[len(common) :]
            self._expected = None
        return event.text if isinstance(event, DeviceText | CloudText) else ""

    def _event(self, event: Event) -> dict[str, Any]:
        if isinstance(event, DeviceText | CloudText):
            side = "device" if isinstance(event, DeviceText) else "cloud"
            return chunk(self.name, self.model, {"content": event.text}, edgekit={"side": side})
        facts: dict[str, Any]
        if isinstance(event, Restart):
            facts = {"event": "restart", "reason": event.reason, "notice": event.notice}
        else:
            what = "consent" if isinstance(event, ConsentWanted) else "hand_off"
            facts = {"event": what, "server": event.request.server, "request": event.request.body()}
        return chunk(self.name, self.model, {}, edgekit=facts)

    @staticmethod
    def _line(data: dict[str, Any]) -> str:
        return f"data: {json.dumps(data)}\n\n"
