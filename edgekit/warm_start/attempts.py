"""A warm start that keeps a model's own way of solving: it learns its right attempts as they are, and the marker.

For models that can already do the task and reason before they answer. Each training problem is attempted once; a
right attempt is learned as it was written, and where the attempt was wrong the marker often takes its place. A
marker tied to the model's own failures survives reinforcement learning, one shown at random does not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import Policy
from edgekit.progress import Progress
from edgekit.rollout.sampler import sample_groups
from edgekit.settings import Settings
from edgekit.tasks.base import Problem, Task
from edgekit.warm_start.supervised import Example, fit
from edgekit.warm_start.work import Work, checkpoints, once


class AttemptsSettings(Settings):
    """How many problems are attempted and how what came of them is learned, each example once a round."""

    attempts: int = Field(default=512, ge=1)
    """Problems that the model attempts, once each."""
    at_once: int = Field(default=64, ge=1)
    """Attempts sampled at a time: each holds keys and values."""
    rounds: int = Field(default=2, ge=1)
    """Times that each example is learned."""
    batch_size: int = Field(default=4, ge=1)
    """Examples in a step."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """AdamW's, at its highest."""
    marker_after_wrong: float = Field(default=0.5, ge=0, le=1)
    """Of the wrong attempts, the share that the marker replaces; of the others only calls are learned."""
    marker_after_right: float = Field(default=0.03, ge=0, le=1)
    """Of the right attempts, the share that the marker replaces."""


@dataclass(frozen=True)
class Attempt:
    """One own response to a problem."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    right: bool
    called: bool


def teach_attempts(
    policy: Policy,
    task: Task,
    settings: AttemptsSettings,
    *,
    seed: int = 0,
    work: Work | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Teach ``policy``, in place, to write what it wrote when it was right or called, and to call where it was wrong.

    The same arguments, device and thread count give the same weights, also where ``work`` lets it go on after it was
    killed. ``on_progress`` hears of the problems attempted, then of the steps done. Raises :class:`EdgekitError` if
    no attempt is right.
    """
    report = on_progress or (lambda *_: None)
    source = random.Random(f"own-attempts/{seed}")
    marker = tuple(policy.tokenizer.encode(policy.routing.marker.text, add_special_tokens=False).ids)
    problems = task.problems("train", settings.attempts, seed)
    attempts: list[Attempt] = []
    for begin in range(0, len(problems), settings.at_once):
        report(begin, len(problems), f"own attempts: {sum(one.right for one in attempts)} of {begin} right")
        batch = problems[begin : begin + settings.at_once]
        attempts += _attempts(policy, task, batch, seed, begin, work)
    solved = sum(one.right for one in attempts)
    if not solved:
        raise EdgekitError(
            f"warm start failed: none of {len(problems)} own attempts at {task.name} is right. There is nothing to "
            "keep. Use warm_start=answers, a larger model or an easier task."
        )
    examples = []
    for one in attempts:
        if source.random() < (settings.marker_after_right if one.right else settings.marker_after_wrong):
            examples.append(Example.of(one.prompt_ids, marker))
        elif one.right or one.called:
            examples.append(Example.of(one.prompt_ids, one.token_ids))
    batches = []
    for _ in range(settings.rounds):
        order = source.sample(examples, len(examples))
        batches += [order[begin : begin + settings.batch_size] for begin in range(0, len(order), settings.batch_size)]
    kept = checkpoints(work, "learning")
    for done, loss in fit(policy.model, batches, len(batches), settings.learning_rate, kept):
        report(done, len(batches), f"own attempts {solved / len(problems):.0%} right; loss {loss:.3f}")


def _attempts(
    policy: Policy, task: Task, problems: Sequence[Problem], seed: int, begin: int, work: Work | None
) -> list[Attempt]:
    """One response to each of ``problems``, the ``begin``-th and those after it."""
    prompts = [policy.encode(problem.prompt) for problem in problems]

    def responses() -> list[tuple[tuple[int, ...], bool, bool]]:
        groups = sample_groups(policy, prompts, 1, temperature=1.0, seed=seed, first=begin)
        decisions = [group.responses[0] for group in groups]
        right = [task.grade(p, d.answer) for p, d in zip(problems, decisions, strict=True)]
        return [(d.token_ids, ok, d.reason == "marker") for d, ok in zip(decisions, right, strict=True)]

    written = once(work, f"attempts-{begin}", responses)
    return [
        Attempt(tuple(prompt), tuple(ids), right, called)
        for prompt, (ids, right, called) in zip(prompts, written, strict=True)
    ]
