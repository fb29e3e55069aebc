"""A warm start that keeps a model's own way of solving: it learns its right attempts as they are, and the marker.

For models that can already do the task and reason before they answer. Each training problem is attempted once; a
right attempt is learned as it was written, and where the attempt was wrong the marker often takes its place. A
marker tied to the model's own failures survives reinforcement learning, one shown at random does not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import Policy
from edgekit.progress import Progress
from edgekit.rollout.sampler import sample_groups
from edgekit.tasks.base import Task
from edgekit.train.reward import emitted_call
from edgekit.warm_start.supervised import Example, fit


@dataclass(frozen=True)
class AttemptsConfig:
    """How many problems are attempted and how what came of them is learned, each example once a round."""

    attempts: int = 512
    at_once: int = 64
    rounds: int = 2
    batch_size: int = 4
    learning_rate: float = 1e-5
    marker_after_wrong: float = 0.5
    marker_after_right: float = 0.03


def teach_from_attempts(
    policy: Policy,
    task: Task,
    *,
    seed: int = 0,
    config: AttemptsConfig | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Teach ``policy``, in place, to write what it wrote when it was right or called, and to call where it was wrong.

    The same arguments, device and thread count give the same weights. ``on_progress`` is called with (steps done,
    steps in all, a note). Raises :class:`EdgekitError` if no attempt is right.
    """
    config = config or AttemptsConfig()
    report = on_progress or (lambda *_: None)
    source = random.Random(f"own-attempts/{seed}")
    marker = tuple(policy.tokenizer.encode(policy.routing.marker.text, add_special_tokens=False).ids)
    problems = task.problems("train", config.attempts, seed)
    examples, solved = [], 0
    for begin in range(0, len(problems), config.at_once):
        report(begin, len(problems), f"own attempts: {solved} of {begin} right")
        batch = problems[begin : begin + config.at_once]
        prompts = [policy.encode(problem.prompt) for problem in batch]
        groups = sample_groups(policy, prompts, 1, temperature=1.0, seed=seed, first=begin)
        for problem, group in zip(batch, groups, strict=True):
            (response,) = group.responses
            right = task.grade(problem, response.answer)
            solved += right
            if source.random() < (config.marker_after_right if right else config.marker_after_wrong):
                examples.append(_example(group.prompt_ids, marker))
            elif right or emitted_call(response):
                examples.append(_example(group.prompt_ids, response.token_ids))
    if not solved:
        raise EdgekitError(
            f"warm start failed: none of {len(problems)} own attempts at {task.name} is right. There is nothing to "
            "keep. Use warm_start=answers, a larger model or an easier task."
        )
    batches = []
    for _ in range(config.rounds):
        order = source.sample(examples, len(examples))
        batches += [order[begin : begin + config.batch_size] for begin in range(0, len(order), config.batch_size)]
    for done, loss in enumerate(fit(policy.model, batches, len(batches), config.learning_rate), 1):
        report(done, len(batches), f"own attempts {solved / len(problems):.0%} right; loss {loss:.3f}")


def _example(prompt: tuple[int, ...], response: tuple[int, ...]) -> Example:
    return Example((*prompt, *response), (*[0] * len(prompt), *[1] * len(response)))
