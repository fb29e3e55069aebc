"""The hybrid server under load: 1, 8 and 64 clients, a cloud that fails a fifth of its calls, a budget that must hold.

Usage: python benchmarks/serve_load.py [--seconds 60] [--results docs/results]

`edgekit serve` runs as users run it, in a process of its own; the clients and the cloud share this one. Prints and
writes requests a second, p50 and p99, answers lost or mixed up, the device's tokens a second beside those of the bare
decode loop, the server's memory and threads, the calls of a budget that is spent, and what a reply, whole and streamed,
takes over the bare decode loop on the same prompts in turns: time, and processor time, which a busy machine bends less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import httpx2
import torch
from serve_table import serve_markdown

import edgekit
from edgekit.hybrid.session import HybridSession
from edgekit.tasks import get_task
from edgekit.workflows.source import open_device

CLIENTS = (1, 8, 64)
FAILS = 0.2
ENOUGH, FEW = 1_000_000, 20
"""Calls that a budget allows: more than the load makes, and fewer."""
IN_TURNS = 100
BASE = Path(edgekit.__file__).parent / "policy" / "base"


class Flaky(BaseHTTPRequestHandler):
    """A cloud that repeats the prompt, and fails on a fixed pseudo-random share of its calls."""

    source, lock, calls, fails = random.Random(0), threading.Lock(), 0, FAILS
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.lock:
            type(self).calls += 1
            fails = self.source.random() < self.fails
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


@dataclass(frozen=True)
class Served:
    """A server's process."""

    url: str
    pid: int

    def status(self) -> dict[str, int]:
        """Its memory and threads."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = {key: int(re.findall(rf"^{key}:\s+(\d+)", text, re.MULTILINE)[0]) for key in ("VmRSS", "Threads")}
        return {"memory_mb": round(found["VmRSS"] / 1024), "threads": found["Threads"]}

    def cpu_s(self) -> float:
        """Processor time of all its threads."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def ask(self, http: HTTPConnection, prompt: str, stream: bool) -> float:
        """Wait for the reply's last byte, with as little of a client as there is: its time is not the server's.

        Returns the seconds that the device decoded meanwhile, as the reply says.
        """
        body = json.dumps({"messages": [{"role": "user", "content": prompt}], "stream": stream})
        http.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        reply = http.getresponse()
        text = reply.read().decode()
        assert reply.status == 200, text
        return float(re.findall(r'"local_ms": ?([\d.]+)', text)[-1]) / 1000


@contextmanager
def serving(cloud_url: str, state: Path, calls: int) -> Iterator[Served]:
    command = [
        sys.executable,
        "-m",
        "edgekit",
        "serve",
        str(BASE),
        "--port",
        "0",
        "--queue",
        "256",
        "--state",
        str(state),
    ]
    command += ["--cloud", f"openai:flaky@{cloud_url}", "--budget", f"{calls}/total"]
    environment = {**os.environ, "EDGEKIT_CLOUD_API_KEY": "none"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            told = (re.search(r"http://\S+/", line) for line in process.stderr)
            yield Served(next(found[0] for found in told if found), process.pid)
        finally:
            process.terminate()
            process.wait(60)


async def load(
    served: Served, prompts: list[str], expected: dict[str, str], clients: int, seconds: float
) -> dict[str, Any]:
    """``clients`` that ask one prompt after another."""
    times: list[float] = []
    wrong = lost = tokens = 0
    end = time.perf_counter() + seconds
    async with httpx2.AsyncClient(limits=httpx2.Limits(max_connections=clients), timeout=120) as http:

        async def client(number: int) -> None:
            nonlocal wrong, lost, tokens
            order = random.Random(number)
            while time.perf_counter() < end:
                prompt = order.choice(prompts)
                begin = time.perf_counter()
                try:
                    reply = await http.post(
                        f"{served.url}v1/chat/completions", json={"messages": [{"role": "user", "content": prompt}]}
                    )
                except httpx2.HTTPError:
                    lost += 1
                    continue
                times.append(time.perf_counter() - begin)
                if reply.status_code != 200:
                    lost += 1
                    continue
                data = reply.json()
                text, facts = data["choices"][0]["message"]["content"], data["edgekit"]
                wrong += text != (f"cloud: {prompt}" if facts["route"] == "cloud" else expected[prompt])
                tokens += facts["generated_tokens"]

        begin = time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(clients)))
        took = time.perf_counter() - begin
    ordered = sorted(times)
    return {
        "clients": clients,
        "requests_per_s": round(len(times) / took, 1),
        "p50_ms": round(1000 * statistics.median(times), 1),
        "p99_ms": round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 1),
        "tokens_per_s": round(tokens / took, 1),
        "requests": len(times),
        "lost": lost,
        "mixed_up": wrong,
        **served.status(),
    }


def bare_tokens_per_s(alone: HybridSession, prompts: list[str], seconds: float) -> float:
    """What the device decodes with nothing around it."""
    order, tokens, begin = random.Random(0), 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        tokens += alone.ask(order.choice(prompts)).generated_tokens
    return round(tokens / (time.perf_counter() - begin), 1)


def in_turns(served: Served, alone: HybridSession, prompts: list[str]) -> dict[str, float]:
    """Medians over ``prompts`` of the bare decode loop, a whole reply and a streamed one: milliseconds, the share that
    replies take over the bare loop, and what of a reply's own time its own decode loop did not take.
    """
    took: dict[str, list[float]] = {}

    def timed(name: str, clock: Callable[[], float], work: Callable[[], float]) -> None:
        begin, used = time.perf_counter(), clock()
        decoding = work()
        passed = time.perf_counter() - begin
        took.setdefault(f"{name}_ms", []).append(passed)
        took.setdefault(f"{name}_cpu_ms", []).append(clock() - used)
        took.setdefault(f"{name}_outside_ms", []).append(passed - decoding)

    with closing(HTTPConnection(urlsplit(served.url).netloc, timeout=120)) as http:
        for prompt in prompts:
            timed("bare", time.process_time, lambda prompt=prompt: alone.ask(prompt).local_ms / 1000)
            timed("served", served.cpu_s, lambda prompt=prompt: served.ask(http, prompt, False))
            timed("streamed", served.cpu_s, lambda prompt=prompt: served.ask(http, prompt, True))
    medians = {name: round(1000 * statistics.median(each), 2) for name, each in took.items()}
    over = {
        f"{kind}{unit}_over": round(medians[f"{kind}{unit}"] / medians[f"bare{unit}"] - 1, 4)
        for kind in ("served", "streamed")
        for unit in ("_ms", "_cpu_ms")
    }
    for kind in ("served", "streamed"):
        own = [out / (whole - out) for whole, out in zip(took[f"{kind}_ms"], took[f"{kind}_outside_ms"], strict=True)]
        over[f"{kind}_outside_over"] = round(statistics.median(own), 4)
    return {**medians, **over}


def spent_budget(cloud_url: str, state: Path, prompts: list[str], seconds: float) -> dict[str, int]:
    """The most clients with prompts that are handed off, on a budget that they spend; each call is one request."""
    before, Flaky.fails = Flaky.calls, 0.0
    with serving(cloud_url, state, FEW) as served:
        row = asyncio.run(load(served, prompts, dict.fromkeys(prompts, ""), CLIENTS[-1], seconds))
        counted = httpx2.get(f"{served.url}v1/edgekit/state").json()["calls"]
    return {"allowed": FEW, "wanted": row["requests"], "counted": counted, "received": Flaky.calls - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    prompts = [problem.prompt for problem in get_task("countdown").problems("validation", 200, 0)]
    alone = HybridSession(open_device(BASE), None)
    answers = {prompt: alone.ask(prompt) for prompt in prompts}
    expected = {prompt: answer.text for prompt, answer in answers.items()}
    kept = [prompt for prompt, answer in answers.items() if not answer.unsure]
    called = [prompt for prompt, answer in answers.items() if answer.unsure]
    cloud = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=cloud.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{cloud.server_port}/v1"
    rows, busy = [], round(os.getloadavg()[0], 1)
    with TemporaryDirectory() as state:
        with serving(url, Path(state) / "load", ENOUGH) as served:
            overhead = in_turns(served, alone, kept[:IN_TURNS])
            first = served.status()
            for clients in CLIENTS:
                bare = bare_tokens_per_s(alone, prompts, given.seconds / 6)
                row = asyncio.run(load(served, prompts, expected, clients, given.seconds))
                rows.append({**row, "bare_tokens_per_s": bare})
                print(json.dumps(rows[-1]), file=sys.stderr)
        budget = spent_budget(url, Path(state) / "budget", called, given.seconds / 6)
    report = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load_average_before": busy,
        "seconds_each": given.seconds,
        "cloud_fails": FAILS,
        "rows": rows,
        "before_load": first,
        "budget": budget,
        "in_turns": {"prompts": len(kept[:IN_TURNS]), **overhead},
    }
    print(json.dumps(report, indent=1))
    if given.results is not None:
        (given.results / "serve.json").write_text(json.dumps(report, indent=1) + "\n")
        (given.results / "serve.md").write_text(serve_markdown(report))


if __name__ == "__main__":
    main()
