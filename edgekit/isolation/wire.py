"""Messages over a socket pair: a JSON value, and bytes beside it that are sent as they lie in memory."""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

HEAD = struct.Struct("<II")  # bytes of the JSON, and of what comes beside it
LARGEST = 2**28


def send(connection: socket.socket, value: Any, beside: bytes | memoryview = b"") -> None:
    """Write one message, in one piece where it fits: what is sent in two wakes the other side twice."""
    text = json.dumps(value).encode()
    head = HEAD.pack(len(text), len(beside)) + text
    sent = connection.sendmsg((head, beside))
    for part in (head, beside):
        if sent < len(part):
            connection.sendall(memoryview(part)[sent:])
        sent = max(0, sent - len(part))


def receive(connection: socket.socket, seconds: float | None = None) -> tuple[Any, bytearray]:
    """The next message. Raises TimeoutError after ``seconds``, EOFError if the other side has gone."""
    end = None if seconds is None else time.monotonic() + seconds
    text_size, beside_size = HEAD.unpack(_read(connection, HEAD.size, end))
    if max(text_size, beside_size) > LARGEST:
        raise EOFError
    return json.loads(_read(connection, text_size, end)), _read(connection, beside_size, end)


def _read(connection: socket.socket, size: int, end: float | None) -> bytearray:
    data = bytearray(size)
    left = memoryview(data)
    while left:
        if end is not None:
            connection.settimeout(max(end - time.monotonic(), 1e-3))
        got = connection.recv_into(left)
        if not got:
            raise EOFError
        left = left[got:]
    return data
