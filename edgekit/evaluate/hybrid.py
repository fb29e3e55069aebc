"""One prompt answered by device or cloud: the decision, then the hand-off, and why each happened."""

from __future__ import annotations

import time
from dataclasses import dataclass

from edgekit.cloud.client import Cloud
from edgekit.errors import EdgekitError
from edgekit.evaluate.answers import SOLO, Decider
from edgekit.routing.decoder import Route
from edgekit.tasks.base import Problem, Task


@dataclass(frozen=True)
class HybridAnswer:
    """What the user gets.

    ``route`` says which side answered. ``reason``: ``answer`` (kept), ``marker`` or ``no_answer`` (handed
    off), ``offline`` (a hand-off was due, but there is no cloud or it failed: the local answer stands).
    """

    route: Route
    reason: str
    text: str
    answer: str | None
    marker_margin: float
    prompt_tokens: int
    generated_tokens: int
    local_ms: float
    cloud_ms: float | None
    correct: bool | None
    notice: str | None = None


def answer_prompt(source: Decider, prompt: str, task: Task, cloud: Cloud | None) -> HybridAnswer:
    """Decide ``prompt`` on the device and ask the cloud at most once, if the policy calls.

    A cloud that fails is no error: the device answers with its marker forbidden, and ``notice`` says why.
    """
    problem = task.parse(prompt) or Problem(prompt, prompt, "unknown")
    begin = time.perf_counter()
    decision = source.decide([problem.prompt])[0]
    answer, text, route, reason, notice = decision.answer, decision.text, decision.route, decision.reason, None
    tokens = len(decision.token_ids)
    local_ms, cloud_ms = _since(begin), None
    if decision.called:
        asked = time.perf_counter()
        try:
            if cloud is None:
                raise EdgekitError("no cloud: none. Nobody to hand off to. Give --cloud.")
            answer = cloud.answer(problem)
            text, cloud_ms = answer, _since(asked)
        except EdgekitError as error:
            begin = time.perf_counter()  # waiting for the cloud is not the device's time
            alone = source.decide([problem.prompt], SOLO)[0]
            answer, text, route, reason, notice = alone.answer, alone.text, "local", "offline", str(error)
            tokens += len(alone.token_ids)
            local_ms += _since(begin)
    correct = task.grade(problem, answer) if problem.data else None
    return HybridAnswer(
        route, reason, text, answer, decision.marker_margin, decision.prompt_tokens, tokens, local_ms, cloud_ms,
        correct, notice,
    )  # fmt: skip


def _since(begin: float) -> float:
    return 1000 * (time.perf_counter() - begin)
