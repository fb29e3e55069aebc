"""The part of OpenAI's chat API that is served: what a request may hold, and what replies look like."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from edgekit.cloud.request import Message
from edgekit.hybrid.events import HybridAnswer

MOST_MESSAGES, MOST_CHARACTERS = 64, 200_000
Text = Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)]


class TextPart(BaseModel):
    """A part of a message; only text can be answered."""

    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(max_length=MOST_MESSAGES)]

    def message(self) -> Message:
        """The turn as the runtime takes it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


class EdgekitOptions(BaseModel):
    """``edgekit`` in a request: what other servers do not know."""

    model_config = ConfigDict(extra="forbid")
    events: bool = False
    """With ``stream``: each chunk says which side wrote it, and hand-offs, consent and restarts are told."""


class StreamOptions(BaseModel):
    """OpenAI's."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A request. Settings of sampling are taken and have no effect: the device decodes greedily."""

    model: Annotated[str, StringConstraints(max_length=200)] = ""
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    n: Literal[1] = 1
    edgekit: EdgekitOptions = EdgekitOptions()

    @property
    def limit(self) -> int | None:
        """The most tokens that the device may write."""
        return self.max_completion_tokens or self.max_tokens

    def conversation(self) -> tuple[Message, ...]:
        """The turns."""
        return tuple(message.message() for message in self.messages)


def edgekit_facts(answer: HybridAnswer, budget_left: dict[str, float] | None) -> dict[str, Any]:
    """What every reply says of how it came about."""
    margin = answer.marker_margin if abs(answer.marker_margin) != float("inf") else None
    return {
        "route": answer.route,
        "reason": answer.reason,
        "marker_margin": margin,
        "local_ms": round(answer.local_ms, 1),
        "cloud_ms": None if answer.cloud_ms is None else round(answer.cloud_ms, 1),
        "generated_tokens": answer.generated_tokens,
        "cost_usd": answer.cost_usd,
        "unsure": answer.unsure,
        "notice": answer.notice,
        "budget_left": budget_left,
    }


def usage(answer: HybridAnswer) -> dict[str, int]:
    """Tokens of the device model."""
    read, written = answer.prompt_tokens, answer.generated_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def completion(name: str, model: str, answer: HybridAnswer, facts: dict[str, Any]) -> dict[str, Any]:
    """A whole reply."""
    message = {"role": "assistant", "content": answer.text}
    return {
        "id": name,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage(answer),
        "edgekit": facts,
    }


def chunk(name: str, model: str, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A piece of a streamed reply."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": name, "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
    return {**head, "choices": [choice], **more}


def problem(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """An error's body, as OpenAI's clients read it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
