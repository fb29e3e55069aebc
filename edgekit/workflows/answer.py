"""Answering prompts with the device and, where the policy calls, the cloud."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, overload

from edgekit.bundle.load import Bundle
from edgekit.cloud.client import Cloud
from edgekit.cloud.openai_client import OpenAICloud
from edgekit.cloud.oracle import TaskChat
from edgekit.cloud.request import ChatCloud
from edgekit.hybrid.events import HybridAnswer
from edgekit.hybrid.session import HybridSession
from edgekit.tasks import get_task
from edgekit.tasks.base import Task
from edgekit.workflows.source import DEFAULT_TASK, AnyPath, open_cloud, open_device, task_for

if TYPE_CHECKING:
    from edgekit.policy.checkpoint import Policy


@overload
def answer(
    source: AnyPath | Policy | Bundle, prompt: str, *, task: str | None = None, cloud: str | Cloud | None = "oracle"
) -> HybridAnswer: ...


@overload
def answer(
    source: AnyPath | Policy | Bundle,
    prompt: list[str],
    *,
    task: str | None = None,
    cloud: str | Cloud | None = "oracle",
) -> list[HybridAnswer]: ...


def answer(
    source: AnyPath | Policy | Bundle,
    prompt: str | list[str],
    *,
    task: str | None = None,
    cloud: str | Cloud | None = "oracle",
) -> HybridAnswer | list[HybridAnswer]:
    """Answer one prompt, or several with the artifact opened once.

    ``source`` is a run, a bundle, or either opened. ``cloud`` is asked where the policy calls: "oracle[:accuracy]",
    "openai:MODEL@BASE_URL", an object with a method ``answer(problem)``, or "none". Raises :class:`EdgekitError` for
    a source or a cloud that edgekit does not know; a cloud that fails is no error, the device then answers.
    """
    chosen = task_for(source, task) or get_task(DEFAULT_TASK)
    session = HybridSession(open_device(source), chat_cloud(open_cloud(cloud, chosen), chosen))
    if isinstance(prompt, str):
        return _graded(session.ask(prompt), prompt, chosen)
    return [_graded(session.ask(each), each, chosen) for each in prompt]


def chat_cloud(cloud: Cloud | None, task: Task) -> ChatCloud | None:
    """``cloud`` as one that takes conversations; a cloud that only knows problems answers those of ``task``."""
    return cloud if cloud is None or isinstance(cloud, OpenAICloud) else TaskChat(task, cloud)


def _graded(answer: HybridAnswer, prompt: str, task: Task) -> HybridAnswer:
    """``answer`` with whether it is right, where ``prompt`` is a problem of ``task``."""
    problem = task.parse(prompt)
    return answer if problem is None else replace(answer, correct=task.grade(problem, answer.answer))
