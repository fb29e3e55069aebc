"""How the policy does on problems it does not train on, while it trains."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.policy.checkpoint import Policy
from edgekit.policy.reference import decode_batch
from edgekit.tasks.base import Problem, Task
from edgekit.train.reward import emitted_call


def evaluate_held_out(policy: Policy, task: Task, problems: Sequence[Problem]) -> dict[str, float]:
    """Greedy decoding: alone (marker forbidden) and at the natural threshold; empty without problems."""
    if not problems:
        return {}
    prompts = [policy.encode(problem.prompt) for problem in problems]
    natural = decode_batch(policy, prompts, marker_bias=0.0)
    alone = decode_batch(policy, prompts, marker_bias=float("-inf"))
    kept = [(p, d) for p, d in zip(problems, natural, strict=True) if not emitted_call(d)]
    spent = [len(d.token_ids) for d in natural if emitted_call(d)]
    solved = sum(task.grade(p, d.answer) for p, d in zip(problems, alone, strict=True))
    measured = {
        "eval_local_accuracy": solved / len(prompts),
        "eval_kept_accuracy": sum(task.grade(p, d.answer) for p, d in kept) / max(1, len(kept)),
        "eval_call_fraction": 1 - len(kept) / len(prompts),
    }
    return measured | ({"eval_tokens_before_call": sum(spent) / len(spent)} if spent else {})
