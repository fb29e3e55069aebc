"""The hybrid server under load: 1, 8 and 64 clients, a cloud that fails a fifth of its calls, a budget that must hold.

Usage: python benchmarks/serve_load.py [--seconds 60] [--results docs/results]

Prints and writes requests a second, p50 and p99, answers lost or mixed up, calls beyond the budget, memory before and
after, and the server's time over the bare decode loop's on the same prompts in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import resource
import socket
import statistics
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import uvicorn

import edgekit
from edgekit.cloud.openai_client import CallLimits, OpenAICloud
from edgekit.hybrid.budget import Budget, parse_limits
from edgekit.hybrid.session import HandOffRules, HybridSession
from edgekit.serve.app import ServeSettings, create_app
from edgekit.tasks import get_task
from edgekit.workflows.source import open_device

CLIENTS = (1, 8, 64)
FAILS = 0.2
BUDGET = 1_000_000


class Flaky(BaseHTTPRequestHandler):
    """A cloud that repeats the prompt, and fails on a fixed pseudo-random fifth of its calls."""

    source, calls, lock = random.Random(0), 0, threading.Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.lock:
            type(self).calls += 1
            fails = self.source.random() < FAILS
        if fails:
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        text = f"cloud: {body['messages'][-1]['content']}"
        parts = [{"delta": {"content": text}}, {"delta": {}, "finish_reason": "stop"}]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for part in parts:
            self.wfile.write(b"data: " + json.dumps({"id": "1", "choices": [{"index": 0, **part}]}).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: object) -> None:
        return


def serve(app: Any) -> tuple[uvicorn.Server, str, threading.Thread]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    return server, f"http://127.0.0.1:{listening.getsockname()[1]}", thread


async def load(url: str, prompts: list[str], expected: dict[str, str], clients: int, seconds: float) -> dict[str, Any]:
    """``clients`` that ask one prompt after another."""
    times: list[float] = []
    wrong = lost = 0
    end = time.perf_counter() + seconds
    async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=clients), timeout=120) as http:

        async def client(number: int) -> None:
            nonlocal wrong, lost
            order = random.Random(number)
            while time.perf_counter() < end:
                prompt = order.choice(prompts)
                begin = time.perf_counter()
                reply = await http.post(
                    f"{url}/v1/chat/completions", json={"messages": [{"role": "user", "content": prompt}]}
                )
                times.append(time.perf_counter() - begin)
                if reply.status_code != 200:
                    lost += 1
                    continue
                data = reply.json()
                text, route = data["choices"][0]["message"]["content"], data["edgekit"]["route"]
                right = f"cloud: {prompt}" if route == "cloud" else expected[prompt]
                wrong += text != right

        begin = time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(clients)))
        took = time.perf_counter() - begin
    ordered = sorted(times)
    return {
        "clients": clients,
        "requests_per_s": round(len(times) / took, 1),
        "p50_ms": round(1000 * statistics.median(times), 1),
        "p99_ms": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 1),
        "requests": len(times),
        "lost": lost,
        "mixed_up": wrong,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    base = Path(edgekit.__file__).parent / "policy" / "base"
    prompts = [problem.prompt for problem in get_task("countdown").problems("validation", 200, 0)]
    device = open_device(base)
    alone = HybridSession(device, None)
    expected = {prompt: alone.ask(prompt).text for prompt in prompts}
    cloud_server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=cloud_server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{cloud_server.server_port}/v1"
    cloud = OpenAICloud("flaky", url, "none", limits=CallLimits(retries=1, at_once=16))
    with TemporaryDirectory() as state:
        budget = Budget(Path(state) / "budget.sqlite", parse_limits([f"{BUDGET}/total"]))
        session = HybridSession(device, cloud, HandOffRules(budget=budget))
        server, address, thread = serve(create_app(session, ServeSettings(model="base", queue=256)))
        rows = [asyncio.run(load(address, prompts, expected, clients, given.seconds)) for clients in CLIENTS]
        counted, _ = budget.spent()
        kept = [prompt for prompt in prompts if not alone.ask(prompt).unsure][:100]
        # In turns, so that a busy moment of this host falls on both.
        bare, served = [], []
        with httpx2.Client(timeout=60) as http:
            for prompt in kept:
                begin = time.perf_counter()
                session.ask(prompt)
                middle = time.perf_counter()
                http.post(f"{address}/v1/chat/completions", json={"messages": [{"role": "user", "content": prompt}]})
                bare.append(middle - begin)
                served.append(time.perf_counter() - middle)
        server.should_exit = True
        thread.join()
    report = {
        "cpu": platform.processor() or platform.machine(),
        "seconds_each": given.seconds,
        "rows": rows,
        "cloud_calls_counted": counted,
        "cloud_requests_seen": Flaky.calls,
        "bare_ms": round(1000 * statistics.median(bare), 2),
        "served_ms": round(1000 * statistics.median(served), 2),
    }
    print(json.dumps(report, indent=1))
    if given.results is not None:
        (given.results / "serve.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
