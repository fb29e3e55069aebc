"""Prefill and decode on this host: edgekit's bundles beside the peers, interleaved in one run.

Every contender is a process of its own (``workers/``), in the Python that has its packages; they take turns, round by
round, with the same prompt, token counts and number of threads, and wait without work while another runs (checked:
their idle processor time is in the result). Rates are medians over the rounds; a ratio is the median of each
round's own ratio, so that a disturbance that lasts longer than a round touches both sides. A contender whose process
ends is left out from then on, and the table says so and why.

    python benchmarks/decode_on_host.py out/bench --peers-python .venv-peers/bin/python --results docs/results

Run benchmarks/export_cost.py first: it makes what this measures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speed_table import speed_markdown
from tokenizers import Tokenizer

WORKERS = Path(__file__).parent / "workers"
YARDSTICKS = ("onnxruntime-genai", "llama.cpp", "export_llm")
TICK = os.sysconf("SC_CLK_TCK")
TEXT = """A phone can run a small language model, but a hard question still needs a large one somewhere else. The small
model answers what it can, and says so when it cannot. Whether that works depends on a decision that nobody sees: the
model has to know, before it writes a wrong answer, that the answer would be wrong. People learn this slowly. A child
who is asked for the square root of two will first guess, then measure, and much later say that there is no fraction
that does it. A model is trained in the same order, with rewards instead of years. When it is then rounded to four
bits so that it fits on the phone, the numbers it weighs are no longer quite the same, and a close decision may fall
on the other side. That is why each exported model is asked the same questions again, and why its answers are counted.
"""
LEAST_CONTEXT = 512
"""onnxruntime-genai refuses a cache smaller than a model's sliding window (Gemma 3: 512)."""
SETTLE_S = 1.0
"""Between turns: some libraries' threads go on spinning for a while after their last work."""


class WorkerEnded(SystemExit):
    """A contender's process ended; the message says how."""


def ending(code: int) -> str:
    """What an exit code means, in a few words."""
    if code >= 0:
        return f"it ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"it ended by {name}" + (", an instruction that this processor refuses" if name == "SIGILL" else "")


@dataclass
class Worker:
    """A contender's process and what was measured of it."""

    name: str
    process: subprocess.Popen[str]
    facts: dict[str, Any] = field(default_factory=dict)
    prefill: list[float] = field(default_factory=list)  # tokens/s, one a round
    decode: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    busy_cpu_s: float = 0.0  # processor time in its own turns
    busy_wall_s: float = 0.0

    def ask(self, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request, if any, and wait for the next reply. Raises :class:`WorkerEnded` if none comes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            if request is not None:
                print(json.dumps(request), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        if not line:
            raise WorkerEnded(f"{self.name}: {ending(self.process.wait())}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def cpu_s(self) -> float:
        """Processor seconds of all its threads so far."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text()
        user, system = text.rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / TICK


def find_contenders(folder: Path, peers_python: Path | None, gguf: Path | None) -> dict[str, list[str]]:
    """Name -> command, for everything that lies in ``folder``: peers first, then bundles."""
    found: dict[str, list[str]] = {}
    if peers_python is not None:
        peers = str(peers_python)
        if (folder / "genai_int4").is_dir():
            worker = WORKERS / "onnxruntime_genai.py"
            found["onnxruntime-genai int4"] = [peers, str(worker), str(folder / "genai_int4")]
        if gguf is not None:
            found["llama.cpp"] = [peers, str(WORKERS / "llama_cpp_gguf.py"), str(gguf)]
    if (folder / "export_llm.pte").is_file():
        worker = WORKERS / "executorch_llm.py"
        found["export_llm 8da4w"] = [sys.executable, str(worker), str(folder / "export_llm.pte")]
    for manifest in sorted(folder.glob("*/manifest.json")):
        bundle = manifest.parent
        found[f"edgekit {bundle.name}"] = [sys.executable, str(WORKERS / "edgekit_bundle.py"), str(bundle)]
    return found


def start(contenders: dict[str, list[str]], threads: int, context: int) -> tuple[list[Worker], dict[str, str]]:
    """Load every contender, one after another; those that do not get that far, and why."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    environment.pop("OMP_WAIT_POLICY", None)  # passive waiting costs llama.cpp most of its speed
    workers, lost = [], {}
    for name, command in contenders.items():
        process = subprocess.Popen(
            [*command, str(threads), str(context)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        worker = Worker(name, process)
        try:
            worker.facts = worker.ask()
        except WorkerEnded as end:
            lost[name] = _told(end)
            continue
        workers.append(worker)
        print(f"loaded {name}: {worker.facts['runtime']}", file=sys.stderr)
    return workers, lost


def _told(end: WorkerEnded) -> str:
    """Why a contender is left out, said on the terminal too."""
    print(f"left out: {end}", file=sys.stderr)
    return str(end).partition(": ")[2]


def measure(
    workers: list[Worker], lost: dict[str, str], prompt: list[int], steps: int, rounds: int, clock: str
) -> dict[str, Any]:
    """Warm up once, then ``rounds`` turns each, timed by ``clock``. Returns how quiet the machine was.

    A worker that ends is moved from ``workers`` to ``lost``, with the reason.
    """
    request = {"prompt": prompt, "steps": steps, "clock": clock}
    for worker in list(workers):
        try:
            worker.ask({**request, "steps": 8})
        except WorkerEnded as end:
            lost[worker.name] = _told(end)
            workers.remove(worker)
    before = {worker.name: worker.cpu_s() for worker in workers}
    machine, begin = machine_busy_s(), time.perf_counter()
    for round_number in range(rounds):
        for worker in list(workers):
            time.sleep(SETTLE_S)
            cpu, wall = worker.cpu_s(), time.perf_counter()
            try:
                reply = worker.ask(request)
            except WorkerEnded as end:
                lost[worker.name] = _told(end)
                workers.remove(worker)
                continue
            worker.busy_cpu_s += worker.cpu_s() - cpu
            worker.busy_wall_s += time.perf_counter() - wall
            worker.prefill.append(len(prompt) / reply["prefill_s"])
            worker.decode.append(steps / reply["decode_s"])
            worker.tokens = reply["tokens"]
        print(f"round {round_number + 1} of {rounds}", file=sys.stderr)
    wall_s = time.perf_counter() - begin
    for worker in workers:
        idle_cpu = worker.cpu_s() - before[worker.name] - worker.busy_cpu_s
        worker.facts["idle_cpu_share"] = idle_cpu / max(wall_s - worker.busy_wall_s, 1e-9)
    own = sum(worker.cpu_s() - before[worker.name] for worker in workers)
    others = (machine_busy_s() - machine - own) / wall_s
    return {"wall_s": wall_s, "other_processes_cores": max(0.0, others)}


def machine_busy_s() -> float:
    """Processor seconds that all cores have worked since the machine started."""
    user, nice, system, _idle, _wait, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / TICK


def summary(worker: Worker, workers: list[Worker]) -> dict[str, Any]:
    """One contender's numbers, and its ratios to each yardstick that took part."""
    result: dict[str, Any] = {
        "runtime": worker.facts["runtime"],
        "megabytes": worker.facts["megabytes"],
        "load_s": worker.facts["load_s"],
        "prefill_tokens_per_s": statistics.median(worker.prefill),
        "decode_tokens_per_s": statistics.median(worker.decode),
        "prefill_rounds": worker.prefill,
        "decode_rounds": worker.decode,
        "cores_used": worker.busy_cpu_s / worker.busy_wall_s,
        "idle_cpu_share": worker.facts["idle_cpu_share"],
        "tokens": worker.tokens,
    }
    for other in workers:
        yardstick = next((name for name in YARDSTICKS if other.name.startswith(name)), None)
        if yardstick is not None:
            for phase in ("prefill", "decode"):
                pairs = zip(getattr(worker, phase), getattr(other, phase), strict=True)
                ratios = [mine / theirs for mine, theirs in pairs]
                result[f"{phase}_over_{yardstick}"] = statistics.median(ratios)
                result[f"{phase}_over_{yardstick}_range"] = [min(ratios), max(ratios)]
    return result


def main() -> None:
    """Run the comparison, print the table, and write speed.json and speed.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what export_cost.py made")
    parser.add_argument("--peers-python", type=Path, help="the Python with onnxruntime-genai and llama-cpp-python")
    parser.add_argument("--gguf", type=Path, help="the model as a GGUF, for llama.cpp")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json of the model (default: a bundle's)")
    parser.add_argument("--only", nargs="*", default=[], help="contenders whose name contains one of these")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock",
        choices=("wall", "processor"),
        default="wall",
        help="processor: seconds that a contender's threads work, for a machine that does other work; take --threads 1",
    )
    parser.add_argument("--results", type=Path, help="folder for speed.json and speed.md")
    arguments = parser.parse_args()
    contenders = find_contenders(arguments.folder, arguments.peers_python, arguments.gguf)
    if arguments.only:
        contenders = {k: v for k, v in contenders.items() if any(word in k for word in arguments.only)}
    if not contenders:
        raise SystemExit(f"nothing to measure: {arguments.folder}. Run benchmarks/export_cost.py first.")
    tokenizer = arguments.tokenizer or next(arguments.folder.glob("*/tokenizer.json"))
    once = Tokenizer.from_file(str(tokenizer)).encode(TEXT, add_special_tokens=False).ids
    prompt = (once * (arguments.prompt_tokens // len(once) + 1))[: arguments.prompt_tokens]
    workers: list[Worker] = []
    try:
        context = max(LEAST_CONTEXT, arguments.prompt_tokens + arguments.steps + 64)
        workers, lost = start(contenders, arguments.threads, context)
        quiet = measure(workers, lost, prompt, arguments.steps, arguments.rounds, arguments.clock)
        contestants = {worker.name: summary(worker, workers) for worker in workers}
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
    cost = arguments.folder / "export_cost.json"
    data = {
        "host": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "settings": {"prompt_tokens": len(prompt), "decode_steps": arguments.steps, "rounds": arguments.rounds,
                     "threads": arguments.threads, "clock": arguments.clock},
        "quiet": quiet,
        "contenders": contestants,
        "did_not_run": lost,
        "export": json.loads(cost.read_text()) if cost.exists() else {},
    }  # fmt: skip
    table = speed_markdown(data, YARDSTICKS)
    print(table)
    if arguments.results is not None:
        (arguments.results / "speed.json").write_text(json.dumps(data, indent=1) + "\n")
        (arguments.results / "speed.md").write_text(table)
    own = [name for name in lost if name.startswith("edgekit ")]
    if own or not workers:
        raise SystemExit(f"did not run: {', '.join(own or lost)}. See the messages above.")


if __name__ == "__main__":
    main()
