"""The page of what serve_load.py measured."""

from __future__ import annotations

from typing import Any

PAGE = """# The server under load

`make bench-serve`: `edgekit serve` with the built-in policy (PyTorch, threads: {torch_threads}), {seconds_each:g} s for
each number of clients, a cloud on loopback that fails {cloud_fails:.0%} of its requests. {cores} cores ({cpu}): the
server is a process of its own, the clients and the cloud another. Load average before: {load_average_before}. Made of
[serve.json](serve.json).

{load}

Before the load: {before_load[memory_mb]} MB, {before_load[threads]} threads. A budget of {budget[allowed]} calls, of
which 64 clients wanted {budget[wanted]}: {budget[received]} requests reached the cloud.

One request at a time, each kind in turns on the same {in_turns[prompts]} prompts that the device keeps, medians. The
bare loop runs in the clients' process; "outside its own loop" is a reply's time less that of the decode loop that wrote
it:

{kinds}
"""
LOAD = {
    "clients": "clients",
    "requests_per_s": "requests/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "tokens_per_s": "device tokens/s",
    "bare_tokens_per_s": "bare decode loop, tokens/s",
    "requests": "requests",
    "lost": "lost",
    "mixed_up": "mixed up",
    "memory_mb": "server's MB",
    "threads": "threads",
}
KINDS = {"bare": "bare decode loop", "served": "whole reply", "streamed": "streamed reply"}


def serve_markdown(report: dict[str, Any]) -> str:
    """Markdown."""
    load = [[*LOAD.values()], ["---"] * len(LOAD), *([row[key] for key in LOAD] for row in report["rows"])]
    head = ["", "ms", "over the bare loop", "processor ms", "over the bare loop", "ms outside its own loop", "over it"]
    kinds = [head, ["---"] * len(head)]
    for kind, name in KINDS.items():
        kinds.append([name])
        for unit, over in (("ms", "ms"), ("cpu_ms", "cpu_ms"), ("outside_ms", "outside")):
            share = report["in_turns"].get(f"{kind}_{over}_over")
            kinds[-1] += [report["in_turns"][f"{kind}_{unit}"], "" if share is None else f"{share:+.1%}"]
    return PAGE.format(**report, load=table(load), kinds=table(kinds))


def table(rows: list[list[Any]]) -> str:
    """One of Markdown's."""
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
