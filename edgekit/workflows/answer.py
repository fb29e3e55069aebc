"""Answering prompts with the device and, where the policy calls, the cloud."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, overload

from edgekit.bundle.load import Bundle
from edgekit.cloud.client import Cloud
from edgekit.cloud.openai_client import final_answer
from edgekit.hybrid.events import Event, HybridAnswer
from edgekit.hybrid.session import HandOffRules, HybridSession
from edgekit.tasks.answered import can_grade
from edgekit.tasks.base import Task
from edgekit.workflows.behind import OWN, chat_cloud, cloud_behind, known_task
from edgekit.workflows.source import AnyPath, open_device

if TYPE_CHECKING:
    from edgekit.policy.checkpoint import Policy


@dataclass(frozen=True)
class Answering:
    """An opened source with its cloud; ``task`` grades the answers to its own prompts, and no others."""

    session: HybridSession
    task: Task

    def ask(self, prompt: str, on_event: Callable[[Event], None] | None = None) -> HybridAnswer:
        """The answer to ``prompt``, with whether it is right, where ``prompt`` is a problem of the task.

        A cloud's prose is then read by the problem's rule, as in training and evaluation.
        """
        answer = self.session.ask(prompt, on_event=on_event)
        problem = self.task.parse(prompt) if can_grade(self.task) else None
        if problem is None:
            return answer
        if answer.route == "cloud":
            rule = problem.data.get("rule") or getattr(self.task, "rule", None)
            answer = replace(answer, answer=final_answer(answer.text, rule))
        return replace(answer, correct=self.task.grade(problem, answer.answer))


def open_answering(
    source: AnyPath | Policy | Bundle,
    *,
    task: str | None = None,
    cloud: str | Cloud | None = OWN,
    rules: HandOffRules | None = None,
) -> Answering:
    """``source`` opened once, for any number of prompts; see :func:`answer`."""
    chosen = known_task(source, task)
    behind = chat_cloud(cloud_behind(source, cloud, chosen), chosen)
    return Answering(HybridSession(open_device(source), behind, rules), chosen)


@overload
def answer(
    source: AnyPath | Policy | Bundle, prompt: str, *, task: str | None = None, cloud: str | Cloud | None = OWN
) -> HybridAnswer: ...


@overload
def answer(
    source: AnyPath | Policy | Bundle, prompt: list[str], *, task: str | None = None, cloud: str | Cloud | None = OWN
) -> list[HybridAnswer]: ...


def answer(
    source: AnyPath | Policy | Bundle,
    prompt: str | list[str],
    *,
    task: str | None = None,
    cloud: str | Cloud | None = OWN,
) -> HybridAnswer | list[HybridAnswer]:
    """Answer one prompt, or several with the artifact opened once.

    ``source`` is a run, a bundle, or either opened. ``cloud`` is asked where the policy calls: "own" (the run's, else
    the oracle), "oracle[:accuracy]", "openai:MODEL@BASE_URL", an object with a method ``answer(problem)``, or "none".
    Raises :class:`EdgekitError` for a source or a cloud that edgekit does not know; a cloud that fails is no error, the
    device then answers.
    """
    opened = open_answering(source, task=task, cloud=cloud)
    return opened.ask(prompt) if isinstance(prompt, str) else [opened.ask(each) for each in prompt]
