"""What a run's report says in words: what happened, and what each column of metrics.jsonl is."""

from __future__ import annotations

from edgekit.train.health import Steps, learned_nothing

COLUMNS = {
    "step": "updates so far",
    "reward": "mean reward of the sampled responses",
    "local_accuracy": "share of the samples that answered and were right",
    "kept_accuracy": "share right among the samples that did not call",
    "call_fraction": "share of the samples that called the cloud",
    "d1": "prompts that some sample solved: they teach solving",
    "d2_candidates": "the others that the cloud answers rightly: they could teach asking",
    "d2": "how many of those were kept for the update",
    "prompts_kept": "prompts that updated the policy",
    "answered": "share of the samples that held an answer between its delimiters, right or wrong",
    "mean_tokens": "mean length of a sample",
    "loss": "the policy gradient's loss; its size says little",
    "grad_norm": "length of the gradient before clipping; 0: no prompt taught anything",
    "clipped": "whether the gradient was shortened to grad_clip",
    "learning_rate": "Adam's, in this step",
    "cloud_calls": "prompts newly sent to the cloud",
    "tokens_before_call": "mean length of the samples that called",
    "call_price": "DA-GRPO's price of a call",
    "moved": "share of the grid's integers that differ from those at the start",
    "gap_per_token": "how far the update's log-probabilities lie from the rollout's, nats a token",
    "gap_per_sequence": "the same, a response",
    "gap_largest": "the same, of the response where it is largest",
    "eval_local_accuracy": "held-out problems answered rightly, greedy, the marker forbidden",
    "eval_kept_accuracy": "right among held-out problems that it keeps",
    "eval_call_fraction": "share of held-out problems that it hands off by itself",
    "eval_tokens_before_call": "mean length before a held-out call",
}
"""Every field of :class:`edgekit.train.metrics.StepMetrics`, for people."""


def what_happened(steps: Steps) -> str:
    """What a run of these ``steps`` did, in a few sentences."""
    if learned_nothing(steps):
        return f"Nothing was learned: in none of {len(steps)} steps did a response to a prompt earn more than another."
    few = max(1, len(steps) // 10)

    def moved(key: str, unit: str) -> str:
        before, after = (sum(step[key] for step in part) / few for part in (steps[:few], steps[-few:]))
        return f"{unit} went from {before:.0%} to {after:.0%}"

    sampled = f"{moved('local_accuracy', 'responses that answer rightly')}, {moved('call_fraction', 'calls')}"
    told = [f"In {len(steps)} steps, {sampled} (means of the first and last {few}, sampled)."]
    held_out = [step for step in steps if {"eval_local_accuracy", "eval_call_fraction"} <= step.keys()]
    if held_out:
        last = held_out[-1]
        alone, calls = last["eval_local_accuracy"], last["eval_call_fraction"]
        told.append(f"At the end it solves {alone:.0%} of held-out problems alone and hands off {calls:.0%} by itself.")
    idle = sum(step["grad_norm"] == 0.0 for step in steps)
    if idle:
        told.append(f"In {idle} steps no prompt taught anything.")
    return " ".join(told)
