"""One prompt answered by device or cloud. The states a prompt can be in are drawn in docs/hybrid.md.

A prompt leaves the device at most once, as one frozen request: redacted first, counted in the budget, shown for
consent, logged, sent. What cannot be counted or logged is not sent.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from edgekit.cloud.openai_client import final_answer
from edgekit.cloud.request import ChatCloud, CloudError, CloudRequest, Message, Price, Usage
from edgekit.errors import EdgekitError
from edgekit.hybrid.audit import AuditLog
from edgekit.hybrid.budget import Budget, BudgetSpent
from edgekit.hybrid.device import Device, TooLong
from edgekit.hybrid.events import (
    CloudText,
    ConsentWanted,
    DeviceText,
    Event,
    HandOff,
    HybridAnswer,
    Reason,
    Restart,
)
from edgekit.hybrid.redaction import Redaction, Redactor
from edgekit.hybrid.stop import Stop, Stopped
from edgekit.routing.decoder import Decision
from edgekit.routing.turns import BadTurns

Consent = Literal["always", "never", "ask"]
AskUser = Callable[[CloudRequest], bool]
"""Shows the request and says whether it may be sent. Must return: who does not answer refuses."""

CALLING_FORBIDDEN = float("-inf")
MOST_REPLY_TOKENS = 4_096
"""What a reply is taken to cost at most, until the server says what it was."""


@dataclass(frozen=True)
class HandOffRules:
    """What must hold before a prompt may leave. Everything None or empty: it may."""

    consent: Consent = "always"
    budget: Budget | None = None
    redactor: Redactor | None = None
    audit: AuditLog | None = None
    price: Price | None = None
    on_failure: Literal["local", "say"] = "local"
    """Where a due hand-off does not happen: the device's own attempt, marked unsure, or only the reason."""


class HybridSession:
    """Answers prompts with ``device`` and, where its policy calls, ``cloud``; None: nobody to hand off to."""

    def __init__(self, device: Device, cloud: ChatCloud | None, rules: HandOffRules | None = None) -> None:
        self.device, self.cloud, self.rules = device, cloud, rules or HandOffRules()

    def ask(
        self,
        prompt: str | Sequence[Message],
        *,
        on_event: Callable[[Event], None] | None = None,
        ask_user: AskUser | None = None,
        stop: Stop | None = None,
        max_new_tokens: int | None = None,
    ) -> HybridAnswer:
        """Decide on the device and ask the cloud at most once. Blocks; ``on_event`` hears what happens meanwhile.

        ``max_new_tokens`` bounds what the device writes, where it is less than routing.json's.

        Raises :class:`Stopped` soon after ``stop`` is set, :class:`BadTurns` for turns that the policy cannot
        read. A device or a cloud that fails is no error: the other side answers, or the answer says that none did.
        """
        messages = (Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt)
        run = _Run(self, messages, on_event or (lambda _: None), ask_user, stop, max_new_tokens)
        return run.answer()


class _Run:
    """One prompt on its way."""

    def __init__(
        self,
        session: HybridSession,
        messages: tuple[Message, ...],
        tell: Callable[[Event], None],
        ask_user: AskUser | None,
        stop: Stop | None,
        max_new_tokens: int | None,
    ) -> None:
        self.max_new_tokens = max_new_tokens
        self.session, self.rules, self.device, self.cloud = session, session.rules, session.device, session.cloud
        self.messages, self.tell, self.ask_user, self.stop = messages, tell, ask_user, stop
        self.ids: list[int] = []
        self.tokens, self.local_ms = 0, 0.0
        self.margin = float("-inf")

    def answer(self) -> HybridAnswer:
        reason, notice, decision = self._on_device()
        if decision is not None and not decision.called:
            return self._local(reason, decision)
        refused = self._refusal()
        if refused is None:
            try:
                return self._hand_off(reason, *self._redacted())
            except _NotSent as error:
                refused = error.reason, error.notice
        return self._alone(decision, *refused, device_notice=notice)

    def _on_device(self) -> tuple[Reason, str | None, Decision | None]:
        """Why the prompt stays or goes, and the device's decision if it could make one."""
        try:
            self.ids = self.device.prompt_ids(self.messages)
            decision = self._decide(None)
        except TooLong as error:
            return "too_long", str(error), None
        except (Stopped, BadTurns):
            raise
        except Exception as error:  # whatever a runtime raises, the prompt can still be answered
            return "device_failed", _device_failure(error), None
        self.margin = decision.marker_margin
        kept: Reason = "answer" if decision.answer is not None else "no_answer"
        return ("marker" if decision.reason == "marker" else kept), None, decision

    def _decide(self, bias: float | None) -> Decision:
        begin = time.perf_counter()
        decision = self.device.decide(
            self.ids,
            marker_bias=bias,
            max_new_tokens=self.max_new_tokens,
            on_text=lambda text: self.tell(DeviceText(text)),
            stop=self.stop,
        )
        self.local_ms += _since(begin)
        self.tokens += len(decision.token_ids)
        return decision

    def _refusal(self) -> tuple[Reason, str] | None:
        """What forbids the hand-off before anything is made ready."""
        if self.cloud is None:
            return "offline", "no cloud: none. Nobody to hand off to. Name one with --cloud."
        if self.rules.consent == "never":
            return "consent", f"not sent: {self.cloud.server}. Prompts stay on this device. Allow it to hand off."
        return None

    def _redacted(self) -> tuple[CloudRequest, Redaction]:
        """The one request, frozen, and how to put back what it lacks. Raises :class:`_NotSent` if it cannot be made."""
        assert self.cloud is not None
        if self.rules.redactor is None:
            return self.cloud.request(self.messages), Redaction("")
        try:
            redactions = self.rules.redactor.redact_all([message.content for message in self.messages])
        except EdgekitError as error:
            raise _NotSent("offline", str(error)) from None
        messages = tuple(replace(m, content=r.text) for m, r in zip(self.messages, redactions, strict=True))
        return self.cloud.request(messages), redactions[-1]

    def _hand_off(self, reason: Reason, request: CloudRequest, redaction: Redaction) -> HybridAnswer:
        """Ask the cloud. Raises :class:`_NotSent` where it may not be asked or does not answer."""
        assert self.cloud is not None
        self._ask_consent(request)
        call = self._count(request)
        self.tell(HandOff(reason, request))
        begin = time.perf_counter()
        reply, restorer, text, failure = self.cloud.send(request), redaction.restorer(), "", None
        whole = False
        try:
            for piece in reply:
                if self.stop is not None and self.stop.is_set():
                    raise Stopped
                text += self._show(restorer.push(piece))
            text += self._show(restorer.finish())
            whole = True
        except CloudError as error:
            failure = error
            raise _NotSent("offline", str(error)) from None
        finally:
            became = "answered" if whole else "stopped" if failure is None else "failed"
            cost = self._settle(call, became, reply.usage, failure, reason, _since(begin))
        return HybridAnswer(
            "cloud", reason, text, final_answer(text), self.margin, len(self.ids), self.tokens, self.local_ms,
            _since(begin), cost,
        )  # fmt: skip

    def _ask_consent(self, request: CloudRequest) -> None:
        if self.rules.consent != "ask":
            return
        try:
            if self.rules.budget is not None and 0 in self.rules.budget.left().values():
                return  # nobody is asked in vain: counting refuses it next
        except EdgekitError as error:
            raise _NotSent("offline", str(error)) from None
        self.tell(ConsentWanted(request))
        if self.ask_user is None or not self.ask_user(request):
            raise _NotSent("consent", f"not sent: {request.server}. You kept the prompt here. The device answers.")

    def _count(self, request: CloudRequest) -> tuple[str, int | None]:
        """Count and log the call that is about to be sent; returns its name in the log and its number."""
        name, number = secrets.token_hex(8), None
        try:
            if self.rules.budget is not None:
                number = self.rules.budget.reserve(name, self._most_cost(request))
            self._log(name, "sent", server=request.server, **request.body())
        except BudgetSpent as error:
            raise _NotSent("budget", str(error)) from None
        except EdgekitError as error:
            if number is not None and self.rules.budget is not None:
                with suppress(EdgekitError):  # what stays counted is the most that it could have cost
                    self.rules.budget.give_back(number)
            raise _NotSent("offline", str(error)) from None
        return name, number

    def _settle(
        self,
        call: tuple[str, int | None],
        became: str,
        usage: Usage | None,
        failure: CloudError | None,
        reason: Reason,
        ms: float,
    ) -> float | None:
        """Write down what became of the call: its cost, or its place in the budget back if it never left.

        An answer that is there is not lost because this cannot be written.
        """
        name, number = call
        cost = self.rules.price.of(usage) if usage is not None and self.rules.price is not None else None
        if self.rules.budget is not None and number is not None:
            with suppress(EdgekitError):  # what stays counted is the most that it could have cost
                if failure is not None and not failure.left_device:
                    self.rules.budget.give_back(number)
                elif cost is not None:
                    self.rules.budget.settle(number, cost)
        counted = usage and {"prompt_tokens": usage.prompt_tokens, "reply_tokens": usage.completion_tokens}
        facts = {"reason": reason, "ms": round(ms), "cost_usd": cost, "why": failure and failure.why, "usage": counted}
        with suppress(EdgekitError):  # that it was sent is on disk already
            self._log(name, became, **facts)
        return cost

    def _most_cost(self, request: CloudRequest) -> float:
        if self.rules.price is None:
            return 0.0
        # A token is at least a byte.
        most = sum(len(message.content.encode()) + 16 for message in request.messages)
        return self.rules.price.of(Usage(most, MOST_REPLY_TOKENS))

    def _log(self, name: str, event: str, **facts: object) -> None:
        if self.rules.audit is not None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            known = {key: value for key, value in facts.items() if value is not None}
            self.rules.audit.append({"at": now, "call": name, "event": event, **known})

    def _alone(self, decision: Decision | None, reason: Reason, notice: str, device_notice: str | None) -> HybridAnswer:
        """The hand-off did not happen: the device's own attempt, its marker forbidden, or only the reason."""
        if decision is None or self.rules.on_failure == "say":
            both = notice if device_notice is None else f"{device_notice} And no hand-off: {notice}"
            return self._nothing(reason, both)
        self.tell(Restart(reason, notice))
        try:
            own = self._decide(CALLING_FORBIDDEN)
        except Stopped:
            raise
        except Exception as error:
            return self._nothing(reason, f"{_device_failure(error)} And no hand-off: {notice}")
        return replace(self._local(reason, own), unsure=True, notice=notice)

    def _local(self, reason: Reason, own: Decision) -> HybridAnswer:
        return HybridAnswer(
            "local", reason, own.text, own.answer, self.margin, len(self.ids), self.tokens, self.local_ms
        )

    def _nothing(self, reason: Reason, notice: str) -> HybridAnswer:
        spent = self.margin, len(self.ids), self.tokens, self.local_ms
        return HybridAnswer("local", reason, "", None, *spent, unsure=True, notice=notice)

    def _show(self, text: str) -> str:
        if text:
            self.tell(CloudText(text))
        return text


class _NotSent(Exception):
    """The cloud was not asked, or did not answer; ``reason`` and ``notice`` are for the user."""

    def __init__(self, reason: Reason, notice: str) -> None:
        self.reason, self.notice = reason, notice


def _device_failure(error: Exception) -> str:
    why = " ".join(f"{type(error).__name__}: {error}".split())[:160].rstrip(".")
    return f"device failed: {why}. Its model did not answer. Check the bundle with edgekit verify."


def _since(begin: float) -> float:
    return 1000 * (time.perf_counter() - begin)
