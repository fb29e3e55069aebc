"""A cloud behind any OpenAI-compatible chat server, every call of it bounded in time and bytes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from edgekit.cloud.address import CREDENTIALS, address_fault
from edgekit.cloud.breaker import Breaker
from edgekit.cloud.request import CloudError, CloudRequest, Message, Usage
from edgekit.errors import EdgekitError
from edgekit.tasks.base import Problem
from edgekit.tasks.grading import answer_in_prose

if TYPE_CHECKING:
    from openai import OpenAI

    from edgekit.cloud.bounded_http import Call

T = TypeVar("T")

INSTRUCTION = "Solve the task. End with your final answer alone between <answer> and </answer>."
OPEN, CLOSE = "<answer>", "</answer>"
RETRIED = frozenset({408, 409, 425, 429}) | frozenset(range(500, 600))
FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 20.0
LONGEST_SHOWN = 100
MOST_TOKENS = 2**31
"""Of a prompt or a reply."""
_ADVICE = {
    "key": "Set EDGEKIT_CLOUD_API_KEY (for api.openai.com OPENAI_API_KEY will do) to the server's key.",
    "time": "Set EDGEKIT_CLOUD_TIMEOUT to more seconds, or ask another server.",
    "address": "Check the address.",
}
_CHECK = "Check the address, the model's name and the key."


@dataclass(frozen=True)
class CallLimits:
    """What one call may take: ``seconds`` and ``max_bytes`` in all, retries and their waits included."""

    seconds: float = 60.0
    max_bytes: int = 4_000_000
    retries: int = 2
    at_once: int = 8


class OpenAICloud:
    """Asks ``model`` at ``base_url``. Errors never show the key.

    Retried, with growing and jittered waits or those the server asks for (Retry-After): 429, 5xx, network errors.
    After several calls in a row that failed for such a reason none is sent for a while. At most ``limits.at_once``
    calls are under way at a time. Raises :class:`EdgekitError` for an address that holds credentials, and for a
    key that cannot be sent.
    """

    def __init__(
        self, model: str, base_url: str, api_key: str, *, limits: CallLimits | None = None, rule: str | None = None
    ) -> None:
        import openai

        if (fault := address_fault(base_url)) is not None:
            advice = _ADVICE["key"] if fault == CREDENTIALS else _ADVICE["address"]
            raise EdgekitError(f"bad cloud: {model[:LONGEST_SHOWN]}. The address {fault}. {advice}")
        if not (api_key.isascii() and api_key.isprintable()):
            why = "Its key holds a character that no HTTP header takes, a line's end perhaps"
            raise EdgekitError(f"bad cloud: {model} at {base_url}. {why}. {_ADVICE['key']}")
        self.model, self.base_url = model, base_url.rstrip("/")
        self.server, self.name = self.base_url, f"openai:{model}"
        self.limits, self.rule = limits or CallLimits(), rule
        self.replies = self.without_delimiters = 0
        self._counting = threading.Lock()
        self._key = api_key
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
        self._breaker = Breaker()
        self._slots = threading.BoundedSemaphore(self.limits.at_once)

    def request(self, messages: tuple[Message, ...]) -> CloudRequest:
        """See :class:`edgekit.cloud.request.ChatCloud`: the instruction first, unless there is a system message."""
        told = any(message.role == "system" for message in messages)
        return CloudRequest(self.server, self.model, messages if told else (Message("system", INSTRUCTION), *messages))

    def answer(self, problem: Problem) -> str:
        """The text between the last answer delimiters of the reply; without them, what the task's ``rule`` finds in it.

        Raises :class:`CloudError` if the server cannot be reached, fails, or sends no text.
        """
        return self.read(problem, self.complete(self.request((Message("user", problem.prompt),)))[0])

    def read(self, problem: Problem, reply: str) -> str:
        """The answer to ``problem`` in ``reply``, by its own grading rule or the task's; counted for :meth:`note`."""
        with self._counting:
            self.replies += 1
            self.without_delimiters += OPEN not in reply
        return final_answer(reply, problem.data.get("rule") or self.rule)

    def note(self) -> str | None:
        """What to know of the replies to problems so far, if there is anything."""
        if not self.without_delimiters:
            return None
        how = f"by the rule {self.rule}, " if self.rule else ""
        return (
            f"{self.without_delimiters} of {self.replies} replies of {self.model} lacked {OPEN}: they were graded "
            f"{how}on the last box, number or letter in them, or whole."
        )

    def complete(self, request: CloudRequest) -> tuple[str, Usage | None]:
        """The whole reply to ``request``, and its tokens if the server counts. Raises :class:`CloudError`."""
        with self._slot() as (call, client):
            return self._retried(call, lambda: self._whole(client, request))

    def send(self, request: CloudRequest) -> StreamedReply:
        """See :class:`edgekit.cloud.request.ChatCloud`."""
        return StreamedReply(self, request)

    def stream(self, request: CloudRequest, on_usage: Callable[[Usage], None]) -> Iterator[str]:
        """The reply's text as it comes; retried only while nothing has come.

        Raises :class:`CloudError`, and once something came what :class:`StreamedReply` makes one of.
        """
        with self._slot() as (call, client):
            pieces = self._retried(call, lambda: self._begun(client, request, on_usage))
            with self._failures(call):
                yield from pieces

    def _whole(self, client: OpenAI, request: CloudRequest) -> tuple[str, Usage | None]:
        reply = client.chat.completions.create(**request.body())
        message = reply.choices[0].message
        if message.tool_calls and not message.content:
            raise _Unreadable("it wants to call a tool")
        if not isinstance(message.content, str) or not message.content.strip():
            raise _Unreadable("its reply holds no text")
        return _text(message.content), None if reply.usage is None else _usage(reply.usage)

    def _begun(self, client: OpenAI, request: CloudRequest, on_usage: Callable[[Usage], None]) -> Iterator[str]:
        """A stream whose first piece has come, so that what follows is not sent again."""
        body: dict[str, Any] = {**request.body(), "stream": True, "stream_options": {"include_usage": True}}
        stream = client.chat.completions.create(**body)
        pieces = self._pieces(stream, on_usage)
        first = next(pieces, None)
        if first is None:
            raise _Unreadable("its reply holds no text")

        def all_pieces() -> Iterator[str]:
            yield first
            yield from pieces

        return all_pieces()

    def _pieces(self, stream: Any, on_usage: Callable[[Usage], None]) -> Iterator[str]:
        begun = ended = False
        with stream:
            for chunk in stream:
                if chunk.usage is not None:
                    on_usage(_usage(chunk.usage))
                for choice in chunk.choices[:1]:
                    ended = ended or choice.finish_reason is not None
                    if choice.delta.tool_calls:
                        raise _Unreadable("it wants to call a tool")
                    if isinstance(choice.delta.content, str) and choice.delta.content:
                        begun = True
                        yield choice.delta.content
        if begun and not ended:
            raise _Unreadable("it broke off")

    def _retried(self, call: Call, ask: Callable[[], T]) -> T:
        for attempt in range(self.limits.retries + 1):
            try:
                with self._failures(call):
                    return ask()
            except _Failure as failure:
                delay = (
                    failure.wait if failure.wait is not None else FIRST_DELAY_S * 2**attempt * random.uniform(0.5, 1)
                )
                left = call.deadline - time.monotonic()
                if not failure.again or attempt == self.limits.retries or min(delay, LONGEST_DELAY_S) >= left:
                    self._breaker.failed(failure.again)
                    raise failure.error from None
                time.sleep(min(delay, LONGEST_DELAY_S))
        raise AssertionError("unreachable")

    @contextmanager
    def _slot(self) -> Iterator[tuple[Call, OpenAI]]:
        """Room for one call: its limits, and a client whose connections are closed with it."""
        from edgekit.cloud.bounded_http import Call, bounded_client

        if not self._breaker.closed:
            raise self._failure("its last calls failed, it is left alone for a while", "closed", left_device=False)
        call = Call(time.monotonic() + self.limits.seconds, self.limits.max_bytes)
        if not self._slots.acquire(timeout=self.limits.seconds):
            raise self._failure("too many calls are under way", "time", left_device=False)
        try:
            with bounded_client(self.base_url, call) as connections:
                yield call, self._client.with_options(http_client=connections)
            self._breaker.worked()
        finally:
            self._slots.release()

    @contextmanager
    def _failures(self, call: Call) -> Iterator[None]:
        """Whatever goes wrong inside becomes a :class:`_Failure`, which knows whether to try again."""
        import httpx2
        import openai

        try:
            yield
        except _Unreadable as error:
            raise self._no(str(error), "reply") from None
        except openai.APIStatusError as error:
            raise self._status(error) from None
        except (openai.APIConnectionError, httpx2.HTTPError, OSError) as error:
            raise self._broken(call, error) from None
        except openai.APIError as error:
            raise self._no(f"it reports an error ({type(error).__name__})", "reply") from None
        except (openai.OpenAIError, AttributeError, IndexError, TypeError, ValueError, RecursionError) as error:
            raise self._no(f"its reply cannot be read ({type(error).__name__})", "reply") from None

    def _status(self, error: Any) -> _Failure:
        status = error.status_code
        if status in (401, 403):
            return self._no(f"it answered with status {status}, it takes no such key", "key")
        if 300 <= status < 400:
            return self._no(f"it answered with status {status}, it sends elsewhere, which is not followed", "address")
        again = status in RETRIED
        wait = _retry_after(error.response.headers.get("retry-after")) if again else None
        kind = "limit" if status == 429 else "status"
        return _Failure(self._failure(f"it answered with status {status}", kind), again, wait)

    def _broken(self, call: Call, error: Exception) -> _Failure:
        reasons = {
            "time": ("it did not answer in time", "time"),
            "size": (f"its reply is larger than {self.limits.max_bytes:,} bytes", "reply"),
            "compressed": ("its reply is compressed though that was not asked for", "reply"),
        }
        ended = call.broken or ("time" if time.monotonic() >= call.deadline else None)
        if ended is not None:
            return self._no(*reasons[ended])
        why = "it broke off" if call.sent else "it cannot be reached"
        return _Failure(self._failure(why, "network", left_device=call.sent), True, None)

    def _no(self, why: str, kind: str) -> _Failure:
        return _Failure(self._failure(why, kind), False, None)

    def _failure(self, why: str, kind: str, *, left_device: bool = True) -> CloudError:
        line = f"cloud failed: {self.model} at {self.base_url}. {why}. {_ADVICE.get(kind, _CHECK)}"
        shown = line.replace(self._key, "***") if self._key else line
        return CloudError(shown, kind, left_device=left_device)


class StreamedReply:
    """One reply of an :class:`OpenAICloud`; iterate once."""

    def __init__(self, cloud: OpenAICloud, request: CloudRequest) -> None:
        self.usage: Usage | None = None
        self._cloud, self._request = cloud, request

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._cloud.stream(self._request, self._count)
        except _Failure as failure:
            self._cloud._breaker.failed(failure.again)
            raise failure.error from None

    def _count(self, usage: Usage) -> None:
        self.usage = usage


class _Unreadable(Exception):
    """A reply that holds no answer."""


class _Failure(Exception):
    """``error`` for the caller; ``again``: whether another try may help, after ``wait`` seconds if the server says."""

    def __init__(self, error: CloudError, again: bool, wait: float | None) -> None:
        self.error, self.again, self.wait = error, again, wait


def _text(reply: str) -> str:
    """``reply`` without halves of characters, which JSON can spell and nothing can write."""
    return reply.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _usage(counted: Any) -> Usage:
    """What a server says that it counted. Raises :class:`_Unreadable` for numbers that it cannot have."""
    tokens = counted.prompt_tokens, counted.completion_tokens
    if not all(isinstance(each, int | float) and 0 <= each < MOST_TOKENS for each in tokens):
        raise _Unreadable("it counts tokens as none can be")
    return Usage(*map(int, tokens))


def _retry_after(value: str | None) -> float | None:
    """Seconds that a server asks to wait. Dates are not read: a server's clock is not ours."""
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < 1e6 else None


def final_answer(text: str, rule: str | None = None) -> str:
    """What stands between the last ``<answer>`` and its ``</answer>``; without them what :func:`answer_in_prose` finds
    by the task's grading ``rule``."""
    _, opened, rest = text.rpartition(OPEN)
    return rest.partition(CLOSE)[0].strip() if opened else answer_in_prose(text, rule)
