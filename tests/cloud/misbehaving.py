"""An OpenAI-compatible server on loopback that behaves, or misbehaves in one of the ways real ones do."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT = "Thinking <answer>1</answer>, no: <answer> 3 * 7 </answer> done"
BROKEN_REPLIES = {
    "html": b"<html>please sign in</html>",
    "torn": b'{"choices": [',
    "no choices": b'{"choices": []}',
    "null choices": b'{"choices": null}',
    "error body": b'{"error": {"message": "overloaded", "code": 503}}',
    "a number": b"7",
    "nested": b'{"choices": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
}


class Server(ThreadingHTTPServer):
    """``modes`` are taken one a request; the last one stays."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.modes = ["good"]
        self.seen: list[dict[str, Any]] = []
        self.closing = threading.Event()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def next_mode(self) -> str:
        with self.lock:
            return self.modes.pop(0) if len(self.modes) > 1 else self.modes[0]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.seen.append(body | {"key": self.headers["Authorization"], "at": time.monotonic()})
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            self.reply(server.next_mode(), bool(body.get("stream")))
        except OSError:
            pass  # the client gave up
        finally:
            with server.lock:
                server.at_once -= 1

    def reply(self, mode: str, stream: bool) -> None:
        name, _, value = mode.partition(":")
        if name == "hang":
            self.server.closing.wait(60)
        elif name == "status":
            code, _, wait = value.partition(",")
            self.send(int(code), b'{"error": {"message": "no"}}', {"Retry-After": wait} if wait else {})
        elif name == "redirect":
            self.send(307, b"", {"Location": value})
        elif name == "drip headers":
            self.drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000)
        elif name == "drip body":
            self.begin(200, {"Content-Length": "100000"})
            self.drip(b" " * 100_000)
        elif name == "drop":
            self.begin(200, {"Content-Length": "100000"})
            self.wfile.write(b'{"choices": [{"index": 0,')
            self.wfile.flush()
        elif name == "large":
            self.begin(200, {"Content-Length": str(50_000_000)})
            for _ in range(50):
                self.wfile.write(b" " * 1_000_000)
        elif name == "gzip":
            self.send(200, gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"})
        elif name == "tool":
            call = {"id": "1", "type": "function", "function": {"name": "run", "arguments": "{}"}}
            delta = {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **call}]}
            self.answer([delta], stream)
        elif name in BROKEN_REPLIES:
            self.send(
                200, BROKEN_REPLIES[name], {"Content-Type": "text/html" if name == "html" else "application/json"}
            )
        elif name == "slow":
            time.sleep(float(value))
            self.answer([{"content": CONTENT}], stream)
        else:
            pieces = [CONTENT[begin : begin + 7] for begin in range(0, len(CONTENT), 7)]
            self.answer([{"content": piece} for piece in pieces], stream, torn=name == "torn stream")

    def answer(self, deltas: list[dict[str, Any]], stream: bool, torn: bool = False) -> None:
        usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
        if not stream:
            message = {"role": "assistant", **deltas[0]}
            if message["content"] is not None:
                message["content"] = "".join(delta["content"] for delta in deltas)
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.send(200, json.dumps({"id": "1", "choices": [choice], "usage": usage}).encode())
            return
        self.begin(200, {"Content-Type": "text/event-stream"})
        for delta in deltas[: 3 if torn else None]:
            self.event({"id": "1", "choices": [{"index": 0, "delta": delta}]})
        if not torn:
            self.event({"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            self.event({"id": "1", "choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")

    def event(self, data: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(data).encode() + b"\n\n")
        self.wfile.flush()

    def begin(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, code: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.begin(code, {"Content-Length": str(len(data)), **(headers or {})})
        self.wfile.write(data)

    def drip(self, data: bytes) -> None:
        for byte in data:
            if self.server.closing.wait(0.05):
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def misbehaving_server() -> Iterator[Server]:
    """A server on a free port of loopback."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
