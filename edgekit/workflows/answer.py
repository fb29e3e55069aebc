"""Answering prompts with the device and, where the policy calls, the cloud."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, overload

from edgekit.bundle.load import Bundle
from edgekit.cloud.client import Cloud
from edgekit.evaluate.hybrid import HybridAnswer, answer_prompt
from edgekit.tasks import get_task
from edgekit.workflows.source import DEFAULT_TASK, AnyPath, open_cloud, open_source, task_of

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
    if isinstance(source, Bundle):
        task = task_of(source.path, task)
    elif isinstance(source, str | os.PathLike):
        task = task_of(Path(source), task)
    chosen = get_task(task or DEFAULT_TASK)
    asked = open_cloud(cloud, chosen)
    decider = open_source(source)
    if isinstance(prompt, str):
        return answer_prompt(decider, prompt, chosen, asked)
    return [answer_prompt(decider, each, chosen, asked) for each in prompt]
