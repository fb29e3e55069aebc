"""One prompt answered by device or cloud: who answered, why, and whose time it took."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import EdgekitError
from edgekit.evaluate import hybrid
from edgekit.evaluate.answers import PolicyDecider
from edgekit.evaluate.hybrid import answer_prompt
from edgekit.policy.checkpoint import load_policy
from edgekit.tasks import get_task

TASK = get_task("countdown")


class Clock:
    """Stands in for the host's: only the cloud moves it."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class SlowCloud:
    """Takes a minute, then answers; or, without an answer, gives up."""

    name = "slow"

    def __init__(self, clock: Clock, reply: str | None) -> None:
        self.clock, self.reply, self.asked = clock, reply, 0

    def answer(self, problem: object) -> str:
        self.asked += 1
        self.clock.now += 60.0
        if self.reply is None:
            raise EdgekitError("cloud failed: slow. It did not answer in time. Ask again.")
        return self.reply


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(hybrid, "time", clock)
    return clock


@pytest.fixture
def source(tiny_policy_folder: Path) -> PolicyDecider:
    return PolicyDecider(load_policy(tiny_policy_folder))


@pytest.fixture
def called(source: PolicyDecider, tiny_prompts: list[str]) -> str:
    return next(p for p, d in zip(tiny_prompts, source.decide(tiny_prompts), strict=True) if d.called)


def test_a_kept_prompt_never_reaches_the_cloud(source: PolicyDecider, tiny_prompts: list[str], clock: Clock) -> None:
    kept = next(p for p, d in zip(tiny_prompts, source.decide(tiny_prompts), strict=True) if not d.called)
    cloud = SlowCloud(clock, "1 + 2")
    answer = answer_prompt(source, kept, TASK, cloud)
    assert (answer.route, answer.cloud_ms, cloud.asked) == ("local", None, 0)
    assert answer.text == source.decide([kept])[0].text


def test_a_call_is_answered_by_the_cloud_whose_time_is_its_own(
    source: PolicyDecider, called: str, clock: Clock
) -> None:
    cloud = SlowCloud(clock, "1 + 2")
    answer = answer_prompt(source, called, TASK, cloud)
    assert (answer.route, answer.answer, answer.text, cloud.asked) == ("cloud", "1 + 2", "1 + 2", 1)
    assert (answer.local_ms, answer.cloud_ms, answer.notice) == (0.0, 60_000.0, None)


def test_a_cloud_that_fails_leaves_the_device_s_answer_and_its_wait_is_not_the_device_s(
    source: PolicyDecider, called: str, clock: Clock
) -> None:
    answer = answer_prompt(source, called, TASK, SlowCloud(clock, None))
    assert (answer.route, answer.reason, answer.local_ms, answer.cloud_ms) == ("local", "offline", 0.0, None)
    assert answer.notice == "cloud failed: slow. It did not answer in time. Ask again."
    decision = source.decide([called])[0]
    assert answer.generated_tokens > len(decision.token_ids)  # both the call and the attempt after it were written


def test_without_a_cloud_the_device_answers_and_says_so(source: PolicyDecider, called: str) -> None:
    answer = answer_prompt(source, called, TASK, None)
    assert (answer.route, answer.reason, answer.cloud_ms) == ("local", "offline", None)
    assert "--cloud" in (answer.notice or "")
