"""HTTP whose every call ends: one deadline and one limit of bytes for all of it, and no way to another host.

The limits are kept where the bytes come from the socket, so that neither a server that drips a byte a second, in its
headers or its body, nor one that never stops can hold a call. Replies are asked for and taken uncompressed only.
"""

from __future__ import annotations

import functools
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore2 as httpcore
import httpx2 as httpx


@dataclass
class Call:
    """The limits of one call. ``broken`` says which of them ended it, ``sent`` whether a byte may have left."""

    deadline: float
    bytes_left: int
    broken: str | None = None
    sent: bool = False

    def seconds_left(self, wanted: float | None) -> float:
        """How long the next wait may take. Raises once the deadline has passed."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            self.broken = "time"
            raise httpcore.ReadTimeout("deadline")
        return left if wanted is None else min(left, wanted)

    def count(self, size: int) -> None:
        """Count bytes received. Raises once there are too many."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            self.broken = "size"
            raise httpcore.ReadError("too large")


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, call: Call) -> None:
        self._stream, self._call = stream, call

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._call.seconds_left(timeout))
        self._call.count(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = self._call.seconds_left(timeout)
        self._call.sent = True
        self._stream.write(buffer, left)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        left = self._call.seconds_left(timeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._call)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Connects as httpcore does, within the call's deadline."""

    def __init__(self, call: Call) -> None:
        self._backend, self._call = httpcore.SyncBackend(), call

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> _Stream:
        left = self._call.seconds_left(timeout)
        return _Stream(self._backend.connect_tcp(host, port, left, local_address, socket_options), self._call)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(self._call.seconds_left(seconds))


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes], close: Any) -> None:
        self._stream, self._close = stream, close

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._stream

    def close(self) -> None:
        self._close()


class _Transport(httpx.BaseTransport):
    def __init__(self, base_url: str, call: Call) -> None:
        self._call = call
        limits: dict[str, Any] = {"ssl_context": _certificates(), "network_backend": _Backend(call)}
        proxy = _proxy_for(base_url)
        self._pool: httpcore.ConnectionPool = (
            httpcore.HTTPProxy(proxy, **limits) if proxy else httpcore.ConnectionPool(**limits)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        asked = httpcore.Request(
            request.method, url, headers=request.headers.raw, content=request.read(), extensions=request.extensions
        )
        with _httpx_errors():
            reply = self._pool.handle_request(asked)
        headers = httpx.Headers(reply.headers)
        if headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            reply.close()
            self._call.broken = "compressed"
            raise httpx.ReadError("compressed")
        assert isinstance(reply.stream, Iterable)
        body = _Body(reply.stream, reply.close)
        return httpx.Response(reply.status, headers=headers, stream=body, extensions=reply.extensions)

    def close(self) -> None:
        self._pool.close()


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """httpcore's errors as httpx's, which the layers above know."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise httpx.ReadTimeout(str(error)) from None
    except (httpcore.ConnectError, httpcore.ProxyError) as error:
        raise httpx.ConnectError(str(error)) from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise httpx.ReadError(str(error)) from None


def _proxy_for(base_url: str) -> str | None:
    """The proxy that the environment names for this address, as every other program takes it."""
    parts = urlsplit(base_url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    return urllib.request.getproxies().get(parts.scheme)


@functools.cache
def _certificates() -> Any:
    """The host's certificates, read once."""
    return httpx.create_ssl_context()


def bounded_client(base_url: str, call: Call) -> httpx.Client:
    """A client for one ``call`` to ``base_url``; it follows no redirect and keeps no connection for another call."""
    return httpx.Client(
        transport=_Transport(base_url, call),
        follow_redirects=False,
        headers={"Accept-Encoding": "identity"},
        timeout=None,
    )
