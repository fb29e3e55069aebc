"""Greedy decoding of the built-in policy: edgekit's loops against transformers' generate, interleaved in one run.

Same weights, same prompts, same tokens (checked). Prints median generated tokens per second, spread and ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

import edgekit
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.reference import ReferenceModel, decode_batch
from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.tasks import get_task

BASE = Path(edgekit.__file__).parent / "policy" / "base"
REPEATS, PROMPTS = 5, 32


def main() -> None:
    """Run the comparison."""
    torch.manual_seed(0)
    policy = load_policy(BASE)
    peer = AutoModelForCausalLM.from_pretrained(BASE).eval()
    task = get_task("countdown")
    prompts = [policy.encode(problem.prompt) for problem in task.problems("test", PROMPTS, 0)]
    model = ReferenceModel(policy.model)
    close = policy.tokenizer.token_to_id(policy.routing.answer.close)
    ends = [close, *policy.routing.stop_token_ids, policy.routing.marker.token_ids[0][0]]

    def one_by_one() -> list[tuple[int, ...]]:
        sessions = [DecodeSession(policy.routing, policy.vocabulary, len(p), model.context_length) for p in prompts]
        return [decode(model, p, s).token_ids for p, s in zip(prompts, sessions, strict=True)]

    def batched() -> list[tuple[int, ...]]:
        return [decision.token_ids for decision in decode_batch(policy, prompts)]

    @torch.inference_mode()
    def transformers() -> list[tuple[int, ...]]:
        results = []
        for prompt in prompts:
            ids = torch.tensor([prompt])
            out = peer.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, eos_token_id=ends, pad_token_id=0,
                max_new_tokens=policy.routing.max_new_tokens,
            )  # fmt: skip
            results.append(tuple(out[0, len(prompt) :].tolist()))
        return results

    ways: dict[str, Callable[[], list[tuple[int, ...]]]] = {
        "transformers generate": transformers,
        "edgekit, one by one": one_by_one,
        "edgekit, batched": batched,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    outputs = {name: way() for name, way in ways.items()}
    same = sum(a == b == c for a, b, c in zip(*outputs.values(), strict=True))
    for _ in range(REPEATS):
        for name, way in ways.items():
            begin = time.perf_counter()
            tokens = sum(len(ids) for ids in way())
            rates[name].append(tokens / (time.perf_counter() - begin))
    peer_rate = statistics.median(rates["transformers generate"])
    print(f"{PROMPTS} prompts, {torch.get_num_threads()} threads, same tokens on {same} of {PROMPTS}")
    for name, values in rates.items():
        median = statistics.median(values)
        spread = (max(values) - min(values)) / median
        print(f"{name:24s} {median:8.0f} tokens/s   spread {spread:4.0%}   {median / peer_rate:5.2f} x")


if __name__ == "__main__":
    main()
