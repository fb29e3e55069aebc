"""What each exporter's 4 bits make of the same policy's decisions: edgekit's artifacts beside its peers' on one task.

    python benchmarks/peer_decisions.py POLICY FOLDER --peers-python .venv-peers/bin/python --gguf Q4_K_M=FILE ...
        --n 300 --out docs/results/reasoning/peers

FOLDER holds what benchmarks/export_cost.py made of POLICY. Every contender writes greedily, in the process in which
decode_on_host.py times it, until the marker, the answer's end or an end token; edgekit's decoder reads the decision
off its tokens, at the policy's own marker bias, which must be 0. Per-problem results are kept in --out as they are
made; the table is study.md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from decode_on_host import WORKERS, Worker, find_contenders, start
from reasoning_study import HEAD, REFERENCE, Result, decode, kept, line, result_of

from edgekit.atomic_write import write_file
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.routing.decode_loop import DecodeSession
from edgekit.routing.decode_loop import decode as decode_one
from edgekit.tasks import get_task
from edgekit.tasks.base import Problem, Task


@dataclass
class Written:
    """A step model that says again what somebody else has written."""

    tokens: Sequence[int]
    vocabulary: int
    context_length: int
    at: int = 0

    def reset(self) -> None:
        self.at = 0

    def prefill(self, token_ids: Sequence[int]) -> np.ndarray:
        return self.decode(0)

    def decode(self, token_id: int) -> np.ndarray:
        logits = np.zeros(self.vocabulary, np.float32)
        logits[self.tokens[min(self.at, len(self.tokens) - 1)]] = 1.0
        self.at += 1
        return logits


def ask(worker: Worker, policy: Policy, problems: Sequence[Problem], task: Task, context: int) -> list[Result]:
    """``worker``'s response to each of ``problems``, read by edgekit's decoder."""
    routing, vocabulary = policy.routing, policy.vocabulary
    ends = [policy.tokenizer.token_to_id(routing.answer.close), *(ids[0] for ids in routing.marker.token_ids)]
    stop = [token for token in (*ends, *routing.stop_token_ids) if token is not None]
    results = []
    for number, problem in enumerate(problems):
        prompt = policy.encode(problem.prompt)
        request = {"prompt": prompt, "steps": routing.max_new_tokens, "clock": "wall", "stop": stop}
        tokens = worker.ask(request)["tokens"]
        session = DecodeSession(routing, vocabulary, len(prompt), context, 0.0)
        decision = decode_one(Written(tokens, policy.model.config.vocab_size, context), prompt, session)
        results.append(result_of(policy, problem, decision, task))
        if number % 20 == 19:
            print(f"{worker.name}: {number + 1} of {len(problems)}", file=sys.stderr)
    return results


def ask_alone(
    problems: Sequence[Problem], name: str, command: list[str], threads: int, policy: Policy, task: Task, context: int
) -> list[Result]:
    """The same of the contender that ``command`` starts, which ends afterwards."""
    workers, lost = start({name: command}, threads, context)
    if not workers:
        raise SystemExit(f"{name}: {lost[name]}")
    try:
        return ask(workers[0], policy, problems, task, context)
    finally:
        workers[0].process.terminate()
        workers[0].process.wait()


def main() -> None:
    """Read the command line and ask whoever has not been asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers-python", type=Path)
    parser.add_argument("--gguf", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--only", nargs="*", default=[], help="contenders whose name contains one of these")
    parser.add_argument("--task", default="countdown-reasoning")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    policy, task = load_policy(given.policy), get_task(given.task)
    if policy.routing.marker_bias:
        parser.error("the policy's marker bias is not 0, which peers cannot add")
    problems = task.problems("test", given.n, seed=0)
    contenders = find_contenders(given.folder, given.peers_python, None)
    for name, file in (pair.split("=", 1) for pair in given.gguf):
        contenders[f"llama.cpp {name}"] = [str(given.peers_python), str(WORKERS / "llama_cpp_gguf.py"), file]
    if given.only:
        contenders = {n: command for n, command in contenders.items() if any(part in n for part in given.only)}
    reference = kept(given.out / f"{REFERENCE}.json.gz", problems, lambda missing: decode(policy, missing, task))
    lines, note = [line(REFERENCE, reference, reference)], f"`{shlex.join(['python', *sys.argv])}`\n\n"
    for name, command in contenders.items():
        path = given.out / f"{name.replace(' ', '_')}.json.gz"
        options = {"threads": given.threads, "policy": policy, "task": task, "context": given.context}
        make = partial(ask_alone, name=name, command=command, **options)
        lines.append(line(name, reference, kept(path, problems, make)))
        print(lines[-1], flush=True)
        table = f"{given.n} held-out problems of {given.task}, greedy.\n\n{HEAD}" + "\n".join(lines) + "\n"
        write_file(given.out / "study.md", f"# The same policy, everybody's four bits\n\n{note}{table}")


if __name__ == "__main__":
    main()
