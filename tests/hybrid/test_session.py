"""One prompt answered by device or cloud: who answered and why, what left, what it cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.cloud.openai_client import CallLimits, OpenAICloud
from edgekit.cloud.oracle import OracleCloud, TaskChat
from edgekit.cloud.request import CloudRequest, Message, Price
from edgekit.errors import EdgekitError
from edgekit.hybrid.audit import AuditLog
from edgekit.hybrid.budget import Budget, parse_limits
from edgekit.hybrid.device import Device
from edgekit.hybrid.events import CloudText, ConsentWanted, DeviceText, HandOff, Restart
from edgekit.hybrid.redaction import Redactor
from edgekit.hybrid.session import HandOffRules, HybridSession
from edgekit.hybrid.stop import Stop, Stopped
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.reference import ReferenceModel
from edgekit.routing.turns import BadTurns
from edgekit.tasks import get_task

TASK = get_task("countdown")
SAID = "Thinking <answer>1</answer>, no: <answer> 3 * 7 </answer> done"
ALONE = float("-inf")


@pytest.fixture(scope="module")
def device(tiny_policy_folder: Path) -> Device:
    policy = load_policy(tiny_policy_folder)
    return Device(ReferenceModel(policy.model), policy.routing, policy.vocabulary, policy.encode)


@pytest.fixture(scope="module")
def decisions(device: Device, tiny_prompts: list[str]) -> dict[bool, str]:
    """A prompt that the policy hands off (True), and one that it keeps."""
    return {device.decide(device.prompt_ids([Message("user", prompt)])).called: prompt for prompt in tiny_prompts}


@pytest.fixture
def called(decisions: dict[bool, str]) -> str:
    return decisions[True]


def cloud_at(server: Any, **limits: float) -> OpenAICloud:
    return OpenAICloud("m", server.url, "sk-secret", limits=CallLimits(**{"seconds": 20.0, "retries": 0, **limits}))


def own_attempt(device: Device, prompt: str) -> str:
    return device.decide(device.prompt_ids([Message("user", prompt)]), marker_bias=ALONE).text


def test_a_kept_prompt_never_leaves(device: Device, decisions: dict[bool, str], server: Any) -> None:
    events: list[Any] = []
    answer = HybridSession(device, cloud_at(server)).ask(decisions[False], on_event=events.append)
    assert (answer.route, answer.cloud_ms, answer.unsure, server.seen) == ("local", None, False, [])
    assert "".join(event.text for event in events) == answer.text
    assert all(isinstance(event, DeviceText) for event in events)


def test_a_call_is_answered_by_the_cloud_whose_words_stream(device: Device, called: str, server: Any) -> None:
    events: list[Any] = []
    answer = HybridSession(device, cloud_at(server)).ask(called, on_event=events.append)
    assert (answer.route, answer.reason, answer.text, answer.answer) == ("cloud", "marker", SAID, "3 * 7")
    at = next(index for index, event in enumerate(events) if isinstance(event, HandOff))
    assert all(isinstance(event, DeviceText) for event in events[:at])
    assert "".join(event.text for event in events[at + 1 :]) == SAID
    assert len(events) > at + 3
    assert device.routing.marker.text not in "".join(event.text for event in events[:at])
    sent = events[at].request.body()
    assert {key: server.seen[0][key] for key in sent} == sent


@pytest.mark.parametrize("mode", ["status:500", "status:401", "torn stream", "html", "hang", "drop", "tool"])
def test_a_cloud_that_fails_leaves_the_device_s_attempt_and_says_so(
    device: Device, called: str, server: Any, mode: str
) -> None:
    server.modes = [mode]
    events: list[Any] = []
    answer = HybridSession(device, cloud_at(server, seconds=0.5)).ask(called, on_event=events.append)
    assert (answer.route, answer.reason, answer.unsure, answer.cloud_ms) == ("local", "offline", True, None)
    assert answer.text == own_attempt(device, called)
    assert "cloud failed" in (answer.notice or "")
    assert sum(isinstance(event, Restart) for event in events) == 1
    after = events[next(i for i, event in enumerate(events) if isinstance(event, Restart)) + 1 :]
    assert "".join(event.text for event in after) == answer.text


def test_without_a_cloud_the_device_answers_or_only_says_so(device: Device, called: str) -> None:
    answer = HybridSession(device, None).ask(called)
    assert (answer.reason, answer.unsure, answer.text) == ("offline", True, own_attempt(device, called))
    said = HybridSession(device, None, HandOffRules(on_failure="say")).ask(called)
    assert (said.reason, said.text, said.answer) == ("offline", "", None)
    assert "--cloud" in (said.notice or "")


def test_a_prompt_too_long_for_the_device_goes_to_the_cloud(device: Device, server: Any) -> None:
    answer = HybridSession(device, cloud_at(server)).ask("1 " * 5_000)
    assert (answer.route, answer.reason, answer.text) == ("cloud", "too_long", SAID)
    alone = HybridSession(device, None).ask("1 " * 5_000)
    assert (alone.route, alone.reason, alone.text) == ("local", "offline", "")
    assert "too long" not in alone.text


class Broken:
    context_length = 64

    def reset(self) -> None:
        return

    def prefill(self, token_ids: object) -> Any:
        raise RuntimeError("out of memory\nat line 3")

    decode = prefill


def test_a_device_that_fails_hands_over(device: Device, called: str, server: Any) -> None:
    broken = Device(Broken(), device.routing, device.vocabulary, device.encode)
    answer = HybridSession(broken, cloud_at(server)).ask(called)
    assert (answer.route, answer.reason, answer.text) == ("cloud", "device_failed", SAID)
    neither = HybridSession(broken, None).ask(called)
    assert (neither.answer, neither.unsure) == (None, True)
    assert "out of memory at line 3" in (neither.notice or "")


def test_a_spent_budget_keeps_the_prompt_here(device: Device, called: str, server: Any, tmp_path: Path) -> None:
    rules = HandOffRules(budget=Budget(tmp_path / "b", parse_limits(["2/day"])))
    session = HybridSession(device, cloud_at(server), rules)
    assert [session.ask(called).reason for _ in range(4)] == ["marker", "marker", "budget", "budget"]
    assert len(server.seen) == 2


def test_a_call_that_never_left_costs_no_budget_and_one_that_broke_off_does(
    device: Device, called: str, server: Any, tmp_path: Path
) -> None:
    budget = Budget(tmp_path / "b", parse_limits(["10/day"]))
    nobody = OpenAICloud("m", "http://127.0.0.1:9/v1", "k", limits=CallLimits(retries=0))
    HybridSession(device, nobody, HandOffRules(budget=budget)).ask(called)
    assert budget.spent()[0] == 0
    server.modes = ["torn stream"]
    HybridSession(device, cloud_at(server), HandOffRules(budget=budget)).ask(called)
    assert budget.spent()[0] == 1


def test_cost_is_the_server_s_count_at_the_user_s_price(
    device: Device, called: str, server: Any, tmp_path: Path
) -> None:
    budget = Budget(tmp_path / "b", parse_limits(["1usd/total"]))
    rules = HandOffRules(budget=budget, price=Price(1_000.0, 2_000.0))
    answer = HybridSession(device, cloud_at(server), rules).ask(called)
    assert answer.reason == "budget"  # it might have cost more than is left
    rules = HandOffRules(budget=budget, price=Price(1.0, 2.0))
    answer = HybridSession(device, cloud_at(server), rules).ask(called)
    assert answer.cost_usd == pytest.approx((20 * 1.0 + 10 * 2.0) / 1e6)
    assert budget.spent() == (1, pytest.approx(answer.cost_usd))


@pytest.mark.parametrize("says", [True, False])
def test_consent_shows_the_very_request_that_is_sent(device: Device, called: str, server: Any, says: bool) -> None:
    shown: list[CloudRequest] = []
    events: list[Any] = []

    def ask_user(request: CloudRequest) -> bool:
        shown.append(request)
        return says

    session = HybridSession(device, cloud_at(server), HandOffRules(consent="ask"))
    answer = session.ask(called, ask_user=ask_user, on_event=events.append)
    assert len(shown) == 1
    assert any(isinstance(event, ConsentWanted) and event.request is shown[0] for event in events)
    if says:
        assert {key: server.seen[0][key] for key in shown[0].body()} == shown[0].body()
        assert next(event for event in events if isinstance(event, HandOff)).request is shown[0]
    else:
        assert (answer.reason, answer.unsure, server.seen) == ("consent", True, [])


def test_nobody_is_asked_who_cannot_answer_or_in_vain(device: Device, called: str, server: Any, tmp_path: Path) -> None:
    assert HybridSession(device, cloud_at(server), HandOffRules(consent="ask")).ask(called).reason == "consent"
    assert HybridSession(device, cloud_at(server), HandOffRules(consent="never")).ask(called).reason == "consent"
    budget = Budget(tmp_path / "b", parse_limits(["0/day"]))
    rules = HandOffRules(consent="ask", budget=budget)
    answer = HybridSession(device, cloud_at(server), rules).ask(called, ask_user=lambda _: pytest.fail("asked in vain"))
    assert (answer.reason, server.seen) == ("budget", [])


class Parrot:
    """A cloud that says what it was told."""

    server, model = "parrot", "p"

    def __init__(self) -> None:
        self.heard: list[CloudRequest] = []

    def request(self, messages: tuple[Message, ...]) -> CloudRequest:
        return CloudRequest(self.server, self.model, messages)

    def send(self, request: CloudRequest) -> Any:
        self.heard.append(request)
        text = request.messages[-1].content

        class Reply(list[str]):
            usage = None

        return Reply(text[begin : begin + 3] for begin in range(0, len(text), 3))


def test_what_is_redacted_stays_in_every_place_and_comes_back(device: Device, tmp_path: Path) -> None:
    cloud, log = Parrot(), AuditLog(tmp_path / "audit.jsonl")
    rules = HandOffRules(redactor=Redactor(["Ada"]), audit=log)
    prompt = "Mail ada@example.org and Ada, +49 30 901820. " + "1 " * 5_000
    events: list[Any] = []
    answer = HybridSession(device, cloud, rules).ask(prompt, on_event=events.append)
    assert answer.text == prompt
    assert "".join(event.text for event in events if isinstance(event, CloudText)) == prompt
    for secret in ("ada@example.org", "Ada", "901820"):
        assert secret not in cloud.heard[0].messages[-1].content
        assert secret not in log.path.read_text()


def test_what_cannot_be_redacted_is_not_sent(device: Device, called: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.hybrid.redaction.MOST_PLACEHOLDERS", 0)
    cloud = Parrot()
    answer = HybridSession(device, cloud, HandOffRules(redactor=Redactor([called]))).ask(called)
    assert (answer.route, answer.reason, cloud.heard) == ("local", "offline", [])
    assert answer.notice is not None and answer.notice.startswith("cannot redact")  # noqa: PT018


def test_the_log_says_what_was_sent_before_it_is_sent_and_what_became_of_it(
    device: Device, called: str, server: Any, tmp_path: Path
) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    session = HybridSession(device, cloud_at(server), HandOffRules(audit=log, price=Price(1.0, 2.0)))
    session.ask(called)
    server.modes = ["status:500"]
    session.ask(called)
    sent, answered, again, failed = log.last(10)
    assert (sent["event"], answered["event"], failed["event"]) == ("sent", "answered", "failed")
    assert sent["call"] == answered["call"] != again["call"] == failed["call"]
    assert sent["messages"][-1]["content"] == called
    assert answered["usage"] == {"prompt_tokens": 20, "reply_tokens": 10}
    assert failed["why"] == "status"
    assert "sk-secret" not in json.dumps(log.last(10))


def test_what_cannot_be_logged_is_not_sent(device: Device, called: str, server: Any, tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    budget = Budget(tmp_path / "b", parse_limits(["5/day"]))
    rules = HandOffRules(audit=AuditLog(tmp_path / "audit.jsonl"), budget=budget)
    answer = HybridSession(device, cloud_at(server), rules).ask(called)
    assert (answer.reason, answer.unsure, server.seen, budget.spent()[0]) == ("offline", True, [], 0)


def test_a_stop_ends_it_between_tokens_and_within_the_cloud_s_reply(device: Device, called: str, server: Any) -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        HybridSession(device, cloud_at(server)).ask(called, stop=stop)
    assert not server.seen
    later = Stop()
    with pytest.raises(Stopped):
        HybridSession(device, cloud_at(server)).ask(
            called, stop=later, on_event=lambda event: later.set() if isinstance(event, CloudText) else None
        )


def test_a_reply_that_was_stopped_is_not_logged_as_answered(
    device: Device, called: str, server: Any, tmp_path: Path
) -> None:
    log, later = AuditLog(tmp_path / "audit.jsonl"), Stop()
    with pytest.raises(Stopped):
        HybridSession(device, cloud_at(server), HandOffRules(audit=log)).ask(
            called, stop=later, on_event=lambda event: later.set() if isinstance(event, CloudText) else None
        )
    assert [entry["event"] for entry in log.last(10)] == ["sent", "stopped"]


class Unsettled(Budget):
    """One whose file is gone once the call is counted."""

    def settle(self, number: int, cost_usd: float) -> None:
        raise EdgekitError(f"cannot use the budget: {number}, {cost_usd}.")

    def give_back(self, number: int) -> None:
        raise EdgekitError(f"cannot use the budget: {number}.")


def test_an_answer_that_is_paid_for_is_not_lost_because_its_cost_cannot_be_written(
    device: Device, called: str, server: Any, tmp_path: Path
) -> None:
    rules = HandOffRules(budget=Unsettled(tmp_path / "b", parse_limits(["5/day"])), price=Price(1.0, 2.0))
    answer = HybridSession(device, cloud_at(server), rules).ask(called)
    assert (answer.route, answer.reason) == ("cloud", "marker")
    unreachable = OpenAICloud("m", "http://127.0.0.1:9/v1", "k", limits=CallLimits(seconds=3, retries=0))
    assert HybridSession(device, unreachable, rules).ask(called).reason == "offline"


class Unreadable(Budget):
    """One whose file cannot be read."""

    def left(self) -> dict[str, float]:
        raise EdgekitError("cannot use the budget: b. It is gone.")


def test_a_budget_that_cannot_be_read_keeps_the_prompt_here_and_asks_nobody(
    device: Device, called: str, server: Any, tmp_path: Path
) -> None:
    rules = HandOffRules(budget=Unreadable(tmp_path / "b", parse_limits(["5/day"])), consent="ask")
    answer = HybridSession(device, cloud_at(server), rules).ask(called, ask_user=lambda _: True)
    assert (answer.reason, server.seen) == ("offline", [])
    assert "cannot use the budget" in (answer.notice or "")


def test_several_turns_need_a_template(device: Device) -> None:
    turns = [Message("user", "1 2 -> 3"), Message("assistant", "1 + 2"), Message("user", "again")]
    with pytest.raises(BadTurns, match="chat template"):
        HybridSession(device, None).ask(turns)


def test_the_oracle_says_that_it_knows_only_its_task_s_prompts(device: Device) -> None:
    chat = TaskChat(TASK, OracleCloud(TASK))
    answer = HybridSession(device, chat).ask("What is the capital of France? " * 2_000)
    assert (answer.reason, answer.answer) == ("offline", None)
    assert "knows only prompts of countdown" in (answer.notice or "")
