"""What goes to a cloud and what comes back: one frozen request, shown for consent, sent, logged and cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from edgekit.errors import EdgekitError, ErrorKind


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; ``role``: system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class CloudRequest:
    """Everything that leaves: to which server, which model, the exact words."""

    server: str
    model: str
    messages: tuple[Message, ...]

    def body(self) -> dict[str, Any]:
        """What an OpenAI-compatible server is sent."""
        turns = [{"role": message.role, "content": message.content} for message in self.messages]
        return {"model": self.model, "messages": turns}

    def digest(self) -> str:
        """A name for the request: equal requests have equal names, whoever asks."""
        return hashlib.sha256(json.dumps([self.server, self.body()], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Usage:
    """Tokens that the server counted."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens."""

    prompt_usd: float
    completion_usd: float

    def of(self, usage: Usage) -> float:
        """What ``usage`` costs, in US dollars."""
        return (usage.prompt_tokens * self.prompt_usd + usage.completion_tokens * self.completion_usd) / 1e6


_KINDS = {"key": ErrorKind.UNAUTHORIZED, "time": ErrorKind.TIMED_OUT, "network": ErrorKind.OFFLINE}


class CloudError(EdgekitError):
    """A cloud that did not answer. ``why``, in a word: key, limit, status, network, time, reply, address or closed.

    ``left_device`` is False only if no byte of the request can have left.
    """

    def __init__(self, line: str, why: str = "reply", *, left_device: bool = True) -> None:
        self.why, self.left_device = why, left_device
        super().__init__(line, _KINDS.get(why, ErrorKind.CLOUD_FAILED))


class Reply(Protocol):
    """A reply that streams: iterate over its pieces, then ``usage`` is known if the server counts."""

    usage: Usage | None

    def __iter__(self) -> Iterator[str]:
        """Pieces of text. Raises :class:`CloudError`."""


class ChatCloud(Protocol):
    """A cloud that takes any conversation."""

    server: str
    model: str

    def request(self, messages: tuple[Message, ...]) -> CloudRequest:
        """``messages`` with what this cloud is always told, addressed to it."""

    def send(self, request: CloudRequest) -> Reply:
        """Ask; nothing is sent before the reply is iterated over."""
