"""What stands before every request: who may ask, from where, and how much."""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from edgekit.serve.openai_api import problem

MAX_BODY = 1_000_000
_OPEN = frozenset({"/", "/page.css", "/page.js", "/healthz"})
"""What needs no key: the page asks for one itself."""
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"  # noqa: E501
_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Refuses foreign hosts and origins (a web page must not reach this server through the user's browser), bodies
    beyond :data:`MAX_BODY`, bodies that are no JSON, and requests without the key where one is set.
    """

    def __init__(self, app: Any, hosts: Iterable[str], api_key: str | None) -> None:
        self._app, self._hosts, self._key = app, {host.lower() for host in hosts}, api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope["method"], scope["path"], headers)

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        if refused is not None:
            await _reply(send_with_headers, *refused)
            return
        body = await _whole_body(receive) if scope["method"] == "POST" else None
        if scope["method"] == "POST" and body is None:
            await _reply(send_with_headers, 413, f"body too large: more than {MAX_BODY:,} bytes. Send less.")
            return
        given = body is None

        async def receive_body() -> MutableMapping[str, Any]:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_body, send_with_headers)

    def _refusal(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        host = _parts(f"//{headers.get('host', '')}").hostname or ""
        if host.lower() not in self._hosts:
            return 421, "unknown host. This server is not known by that name. Use the address that it printed."
        origin = headers.get("origin")
        if origin is not None and _parts(origin).netloc.lower() != headers.get("host", "").lower():
            return 403, "foreign origin. Pages of other sites may not use this server."
        if self._key is not None and path not in _OPEN:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode("latin-1"), os.fsencode(self._key)):
                return 401, "wrong API key. Send the server's, as Authorization: Bearer KEY."
        if method == "POST":
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                return 415, "no JSON. Send Content-Type: application/json."
            length = headers.get("content-length", "0")
            if length.isdecimal() and (len(length) > 20 or int(length) > MAX_BODY):
                return 413, f"body too large: more than {MAX_BODY:,} bytes. Send less."
        return None


def _parts(address: str) -> SplitResult:
    """The parts of what a client calls an address; empty ones of what is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return SplitResult("", "", "", "", "")


async def _whole_body(receive: Receive) -> bytes | None:
    """The request's body; None if it is larger than allowed."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return body


async def _reply(send: Send, status: int, line: str) -> None:
    data = json.dumps(problem(line)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
