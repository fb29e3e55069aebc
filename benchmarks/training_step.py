"""A training step, rollout and update, beside TRL's GRPOTrainer: the same work, in turns, in one run.

Same model, prompts, responses to each, response length (fixed), precision and number of threads. Every contender is
a process of its own (``workers/``) that waits without work while another runs. A rate is completion tokens per
second of whole steps, the median over the rounds after one to warm up; a ratio is the median of each round's own.
First the contenders in float32, then those in bfloat16, so that no more than two hold memory at a time. On a GPU one
after the other, alone: TRL's step fills a card.

    python benchmarks/training_step.py --peers-python .venv-peers-trl/bin/python --results docs/results
    python benchmarks/training_step.py --device cuda --peers-python .venv-peers-trl/bin/python --results docs/results
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from decode_on_host import Worker, machine_busy_s

from edgekit.policy.smollm2 import smollm2_folder

WORKERS = Path(__file__).parent / "workers"
# As long as such prompts are in practice: the paper's tell the model how to answer and when to ask.
PROMPT = """<|im_start|>system
You are a helpful assistant. Solve the task step by step. Give only the final answer between <answer> and </answer>.
If you cannot solve it, write <call> on a line of its own instead of an answer.<|im_end|>
<|im_start|>user
Using the numbers {numbers}, write an equation that equals {target}. You can use +, -, * and /, and each number once.
<|im_end|>
<|im_start|>assistant
"""
PRECISIONS = {"fp32": False, "bf16": True}


def make_prompts(count: int) -> list[str]:
    """``count`` Countdown prompts, thirty of them different, all of one length: each digit is a token."""
    numbers = [i % 30 for i in range(count)]
    return [PROMPT.format(numbers=f"{13 + i}, {50 + i} and {31 + 2 * i}", target=60 + i) for i in numbers]


def start(name: str, command: list[str], job: dict[str, Any]) -> Worker:
    """Load one contender."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(job["threads"])}
    process = subprocess.Popen(
        [*command, json.dumps(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    worker = Worker(name, process)
    worker.facts = worker.ask()
    print(f"loaded {name}: {worker.facts['runtime']}", file=sys.stderr)
    return worker


def measure(workers: list[Worker], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """One turn each to warm up, then ``rounds``: the replies of those."""
    replies: dict[str, list[dict[str, Any]]] = {worker.name: [] for worker in workers}
    for round_number in range(rounds + 1):
        for worker in workers:
            cpu = worker.cpu_s()
            reply = worker.ask({})
            reply["cpu_s"] = worker.cpu_s() - cpu
            print(f"round {round_number}: {worker.name} {reply['seconds']:.1f} s", file=sys.stderr)
            if round_number:
                replies[worker.name].append(reply)
    return replies


def summary(replies: list[dict[str, Any]], yardstick: list[dict[str, Any]], runtime: str) -> dict[str, Any]:
    """One contender's numbers and its ratios to ``yardstick``, round by round."""
    ratios = [theirs["seconds"] / mine["seconds"] for mine, theirs in zip(replies, yardstick, strict=True)]
    cpu = [theirs["cpu_s"] / mine["cpu_s"] for mine, theirs in zip(replies, yardstick, strict=True)]
    seconds = [reply["seconds"] for reply in replies]
    return {
        "runtime": runtime,
        "step_s": statistics.median(seconds),
        "step_s_range": [min(seconds), max(seconds)],
        "rollout_s": statistics.median(reply["rollout_s"] for reply in replies),
        "update_s": statistics.median(reply["seconds"] - reply["rollout_s"] for reply in replies),
        "cpu_s": statistics.median(reply["cpu_s"] for reply in replies),
        "tokens_per_s": statistics.median(reply["completion_tokens"] / reply["seconds"] for reply in replies),
        "completion_tokens": replies[0]["completion_tokens"],
        "prompt_tokens": replies[0]["prompt_tokens"],
        "peak_mb": max(reply["peak_mb"] for reply in replies),
        "over_trl": statistics.median(ratios),
        "over_trl_range": [min(ratios), max(ratios)],
        "over_trl_cpu": statistics.median(cpu),
        "memory_over_trl": replies[-1]["peak_mb"] / yardstick[-1]["peak_mb"],
        "rounds": replies,
    }


def compare(job: dict[str, Any], peers_python: Path, precision: str, rounds: int, both: bool) -> dict[str, Any]:
    """TRL and edgekit in one precision; ``both``: TRL with its default of recomputing activations too."""
    job = {**job, "bfloat16": PRECISIONS[precision]}
    trl = [str(peers_python), str(WORKERS / "trl_grpo.py")]
    mine = [sys.executable, str(WORKERS / "edgekit_training.py")]
    contenders = [(f"TRL {precision}", trl, False)]
    if both:
        contenders.append((f"TRL {precision}, recomputing", trl, True))
    contenders.append((f"edgekit {precision}", mine, False))
    workers: list[Worker] = []
    replies: dict[str, list[dict[str, Any]]] = {}
    for together in [contenders] if job["device"] == "cpu" else [[each] for each in contenders]:
        present = [start(name, command, {**job, "checkpointing": again}) for name, command, again in together]
        replies |= measure(present, rounds)
        for worker in present:
            assert worker.process.stdin is not None
            worker.process.stdin.close()
            worker.process.wait()
        workers += present
    completions = {each["completion_tokens"] for turns in replies.values() for each in turns}
    prompts = [each["prompt_tokens"] for turns in replies.values() for each in turns]
    # Another release of the tokenizer's library may split a prompt's text into a token more or less.
    if len(completions) != 1 or max(prompts) > 1.02 * min(prompts):
        raise SystemExit(f"not the same work: completion tokens {completions}, prompt tokens {sorted(set(prompts))}.")
    yardstick = replies[f"TRL {precision}"]
    return {worker.name: summary(replies[worker.name], yardstick, worker.facts["runtime"]) for worker in workers}


def markdown(data: dict[str, Any]) -> str:
    """The table that docs/results/training_step.md shows."""
    settings = data["settings"]
    first = next(iter(data["contenders"].values()))
    prompt_tokens = first["prompt_tokens"] / settings["prompts_per_step"]
    lines = [
        "# A training step on this host",
        "",
        f"{settings['model']}, {settings['device']}, {data['host']['cores']} cores ({data['host']['machine']}), "
        f"{settings['threads']} threads, "
        f"{settings['prompts_per_step']} prompts of {prompt_tokens:.0f} tokens, "
        f"{settings['group_size']} responses of {settings['completion_tokens']} tokens to each; {settings['rounds']} "
        "rounds in turns after one to warm up. Medians; range over the rounds in brackets. `make bench-training` "
        "makes this file.",
        "",
        f"While it ran, other processes used {data['other_processes_cores']:.2f} cores.",
        "",
        "| | step, s | of it rollout | update | tokens/s | x TRL, time | x TRL, CPU time | peak memory, MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, numbers in data["contenders"].items():
        (low, high), (least, most) = numbers["step_s_range"], numbers["over_trl_range"]
        lines.append(
            f"| {name} | {numbers['step_s']:.2f} ({low:.2f}-{high:.2f}) | {numbers['rollout_s']:.2f} | "
            f"{numbers['update_s']:.2f} | "
            f"{numbers['tokens_per_s']:.0f} | {numbers['over_trl']:.2f} ({least:.2f}-{most:.2f}) | "
            f"{numbers['over_trl_cpu']:.2f} | {numbers['peak_mb']:,.0f} |"
        )
    return "\n".join([*lines, "", *(f"- {name}: {n['runtime']}" for name, n in data["contenders"].items()), ""])


def add_job_arguments(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    """The options that say what a step is, and how often it is measured."""
    parser.add_argument("--model", type=Path, help="a Hugging Face folder (default: SmolLM2-135M-Instruct)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--prompts-per-step", type=int, help="(default: 4, on a GPU 32)")
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--completion-tokens", type=int, help="(default: 64, on a GPU 128)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=rounds)


def job_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a worker is told of the steps to take."""
    prompts, tokens = (4, 64) if arguments.device == "cpu" else (32, 128)
    prompts = arguments.prompts_per_step or prompts
    return {
        "model": str((arguments.model or smollm2_folder()).resolve()),
        "device": arguments.device,
        "prompts": make_prompts(4 * prompts),
        "prompts_per_step": prompts,
        "group_size": arguments.group_size,
        "completion_tokens": arguments.completion_tokens or tokens,
        "threads": arguments.threads,
    }


def main() -> None:
    """Run the comparison, print the table, write training_step.json and training_step.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_job_arguments(parser, rounds=2)
    parser.add_argument("--peers-python", type=Path, required=True, help="the Python that has TRL")
    parser.add_argument("--precisions", nargs="*", choices=PRECISIONS, help="(default: both, on a GPU bf16)")
    parser.add_argument("--trl-default-too", action="store_true", help="TRL recomputing activations, its default, too")
    parser.add_argument("--results", type=Path, help="folder for training_step.json and training_step.md")
    arguments = parser.parse_args()
    job = job_of(arguments)
    begin, busy = time.perf_counter(), machine_busy_s()
    contenders: dict[str, Any] = {}
    for precision in arguments.precisions or (list(PRECISIONS) if arguments.device == "cpu" else ["bf16"]):
        contenders |= compare(job, arguments.peers_python, precision, arguments.rounds, arguments.trl_default_too)
    own = sum(os.times()[2:4])  # all contenders have ended
    others = (machine_busy_s() - busy - own) / (time.perf_counter() - begin)
    settings = {key: value for key, value in job.items() if key != "prompts"}
    settings["model"] = Path(job["model"]).name
    data = {
        "host": {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()},
        "settings": {**settings, "rounds": arguments.rounds},
        "other_processes_cores": max(0.0, others),
        "contenders": contenders,
    }
    text = markdown(data)
    print(text)
    if arguments.results:
        arguments.results.mkdir(parents=True, exist_ok=True)
        name = "training_step" if arguments.device == "cpu" else f"training_step_{arguments.device}"
        (arguments.results / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
        (arguments.results / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
