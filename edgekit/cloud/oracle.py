"""A cloud that knows the task: its exact solver, wrong on a fixed share of prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from edgekit.cloud.client import Cloud
from edgekit.cloud.request import CloudError, CloudRequest, Message, Usage
from edgekit.errors import EdgekitError
from edgekit.tasks.base import Problem, Task


class OracleCloud:
    """Answers with ``task.solve``; ``accuracy`` below 1 makes it wrong on a share of problems.

    Which ones depends on the problem's id and ``seed`` alone, so every run sees the same cloud.
    """

    def __init__(self, task: Task, accuracy: float = 1.0, seed: int = 0) -> None:
        self.task = task
        self.accuracy = accuracy
        self.seed = seed
        self.name = "oracle" if accuracy == 1.0 else f"oracle:{accuracy:g}"

    def answer(self, problem: Problem) -> str:
        """The solver's answer, or a text no task accepts where this cloud is wrong."""
        digest = hashlib.sha256(f"{self.seed}:{problem.id}".encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        return self.task.solve(problem) if share < self.accuracy else "I do not know"


class TaskChat:
    """A :class:`ChatCloud` made of a cloud that answers problems: it knows the prompts of ``task`` and no others."""

    def __init__(self, task: Task, cloud: Cloud) -> None:
        self.task, self.cloud = task, cloud
        self.server, self.model = "this device", cloud.name

    def request(self, messages: tuple[Message, ...]) -> CloudRequest:
        """See :class:`edgekit.cloud.request.ChatCloud`."""
        return CloudRequest(self.server, self.model, messages)

    def send(self, request: CloudRequest) -> TaskReply:
        """See :class:`edgekit.cloud.request.ChatCloud`."""
        return TaskReply(self, request)


class TaskReply:
    """The one piece of a :class:`TaskChat`'s reply."""

    usage: Usage | None = None

    def __init__(self, chat: TaskChat, request: CloudRequest) -> None:
        self._chat, self._request = chat, request

    def __iter__(self) -> Iterator[str]:
        task = self._chat.task
        problem = task.parse(self._request.messages[-1].content)
        if problem is None:
            why = f"It knows only prompts of {task.name}. Give a real cloud: --cloud openai:MODEL@URL."
            raise CloudError(f"{self._chat.model} cannot answer: this prompt. {why}", "reply", left_device=False)
        try:
            yield self._chat.cloud.answer(problem)
        except CloudError:
            raise
        except EdgekitError as error:  # a task whose answers nobody gives
            raise CloudError(str(error), "reply", left_device=False) from None
