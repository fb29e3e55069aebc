"""A pretrained language model's warm start: the answer's format first, then when to give the marker instead.

Three rounds, all from one seed and from training problems only. The model learns right answers; it attempts
problems it has not seen; then it learns the marker in place of the answer, often where its own attempt was
wrong and hardly ever where it was right. A marker tied to the model's own failures survives reinforcement
learning, one shown at random does not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from pydantic import Field

from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import Policy
from edgekit.progress import Progress
from edgekit.rollout.sampler import sample_groups
from edgekit.settings import Settings
from edgekit.tasks.base import Problem, Task
from edgekit.warm_start.supervised import Example, fit
from edgekit.warm_start.work import Work, checkpoints, once


class AnswersSettings(Settings):
    """Lengths of the rounds. The defaults suit a model of some 100 million parameters on a few CPU cores."""

    batch_size: int = Field(default=16, ge=1)
    """Problems in a step."""
    answer_steps: int = Field(default=440, ge=1)
    """Steps in which right answers are learned."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """AdamW's in them, at its highest."""
    attempts: int = Field(default=500, ge=2)
    """Problems that the model then attempts: new ones, where the task has enough."""
    marker_steps: int = Field(default=70, ge=1)
    """Steps in which it learns, of these problems, when to give the marker."""
    marker_learning_rate: float = Field(default=1e-4, gt=0)
    """AdamW's in them, at its highest."""
    marker_after_wrong: float = Field(default=0.95, ge=0, le=1)
    """Of the problems attempted wrongly, the share whose response becomes the marker."""
    marker_after_right: float = Field(default=0.02, ge=0, le=1)
    """The same of those attempted rightly."""


def teach_answers(
    policy: Policy,
    task: Task,
    settings: AnswersSettings,
    *,
    seed: int = 0,
    work: Work | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Teach ``policy``, in place, to answer ``task`` in its format and to call where it tends to fail.

    The same arguments, device and thread count give the same weights, also where ``work`` lets it go on after it was
    killed. ``on_progress`` hears of the steps done.
    """
    report = on_progress or (lambda *_: None)
    total = settings.answer_steps + settings.marker_steps
    source = random.Random(f"teach-marker/{seed}")
    shown = settings.answer_steps * settings.batch_size
    problems = task.problems("train", shown + settings.attempts, seed)
    if len(problems) < 2:
        why = "A warm start teaches some, and has the policy attempt others"
        raise EdgekitError(f"too few training problems: {len(problems)}. {why}. Give 2 or more.")
    known = problems[: len(problems) - min(settings.attempts, len(problems) // 2)]
    examples = [answer_example(policy, task, problem) for problem in known]
    batches = _batches((examples * -(-shown // len(examples)))[:shown], settings.batch_size)  # few are shown again
    kept = checkpoints(work, "answers")
    for done, loss in fit(policy.model, batches, settings.answer_steps, settings.learning_rate, kept):
        report(done, total, f"answers: loss {loss:.3f}")
    unseen = problems[len(known) :]
    report(settings.answer_steps, total, f"attempting {len(unseen)} problems")
    right = once(work, "right", lambda: attempt(policy, task, unseen, seed))
    shares = (settings.marker_after_wrong, settings.marker_after_right)
    examples = [
        marker_example(policy, problem) if source.random() < shares[ok] else answer_example(policy, task, problem)
        for problem, ok in zip(unseen, right, strict=True)
    ]
    drawn = (source.sample(examples, min(settings.batch_size, len(examples))) for _ in range(settings.marker_steps))
    kept = checkpoints(work, "marker")
    note = f"own attempts {sum(right) / max(1, len(right)):.0%} right"
    for done, loss in fit(policy.model, drawn, settings.marker_steps, settings.marker_learning_rate, kept):
        report(settings.answer_steps + done, total, f"{note}; marker: loss {loss:.3f}")


def attempt(policy: Policy, task: Task, problems: Sequence[Problem], seed: int) -> list[bool]:
    """Whether one response to each of ``problems``, sampled at temperature 1, is right."""
    prompts = [policy.encode(problem.prompt) for problem in problems]
    groups = sample_groups(policy, prompts, 1, temperature=1.0, seed=seed, rows_per_batch=128)
    return [task.grade(p, group.responses[0].answer) for p, group in zip(problems, groups, strict=True)]


def answer_example(policy: Policy, task: Task, problem: Problem) -> Example:
    """The right answer to ``problem`` in the policy's format."""
    delimiters = policy.routing.answer
    return _example(policy, problem, f"{delimiters.open}{task.solve(problem)}{delimiters.close}")


def marker_example(policy: Policy, problem: Problem) -> Example:
    """The marker as the response to ``problem``."""
    return _example(policy, problem, policy.routing.marker.text)


def _example(policy: Policy, problem: Problem, response: str) -> Example:
    return Example.of(policy.encode(problem.prompt), policy.tokenizer.encode(response, add_special_tokens=False).ids)


def _batches(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    for begin in range(0, len(examples), size):
        yield examples[begin : begin + size]
