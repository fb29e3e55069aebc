"""A server at its address: the address is taken when it is made, requests are answered while it runs."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgekit.errors import EdgekitError

GRACE_S = 30
"""How long requests under way may take to end once the server is told to stop."""


class OneWriteProtocol(HttpToolsProtocol):
    """HTTP whose head and body leave together: each write wakes the client, which can do nothing with half a reply."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio's."""
        super().connection_made(cast(asyncio.Transport, Together(transport)))


class Together:
    """``transport``, with what is written in one turn of the loop written at once."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._pieces = transport, list[bytes]()

    def write(self, data: bytes) -> None:
        """asyncio's."""
        if not self._pieces:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pieces.append(data)

    def close(self) -> None:
        """asyncio's."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():  # the client may be gone by now
            self._transport.write(b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Server:
    """``app``, an ASGI application, at ``host``:``port``; port 0 is any free one.

    Raises :class:`EdgekitError` if the address cannot be had.
    """

    def __init__(self, app: Any, host: str, port: int) -> None:
        name = host.strip("[]")
        shown = f"[{name}]" if ":" in name else name
        family = socket.AF_INET6 if ":" in name else socket.AF_INET
        # Its protocol by name: asyncio takes Nagle's delay only off sockets that have one, and a reply in pieces would
        # wait 40 ms for the client's late acknowledgement.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((name, port))
            self._socket.listen()  # who is told the address may connect, and waits for the first answer
        except OSError as error:
            self._socket.close()
            raise EdgekitError(
                f"cannot listen: {shown}:{port}. {error.strerror}. Give another --host or --port."
            ) from None
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}/"
        how: dict[str, Any] = {"log_level": "warning", "timeout_graceful_shutdown": GRACE_S, "server_header": False}
        config = uvicorn.Config(app, http=OneWriteProtocol, **how)
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Answer requests until the process is told to stop; KeyboardInterrupt (Ctrl-C) when all has ended in order.

        In another thread than the main one: until :meth:`stop`.
        """
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Have :meth:`run` take no more requests, and end when those under way have."""
        self._server.should_exit = True
