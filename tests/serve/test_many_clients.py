"""Many clients of the hybrid server at once: who waits, who leaves, what stays behind, and how it shuts down."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from serve.clients import client_of, cloud_at, one

from edgekit.cloud.request import CloudRequest
from edgekit.hybrid.audit import AuditLog
from edgekit.hybrid.budget import Budget, parse_limits
from edgekit.hybrid.device import Device
from edgekit.hybrid.events import HybridAnswer
from edgekit.hybrid.session import HandOffRules
from edgekit.hybrid.stop import Stop
from edgekit.routing.decode_loop import DecodeSession
from edgekit.serve.app import Stream
from edgekit.serve.running import Running


class Slow:
    """A device model that takes its time, until told not to."""

    def __init__(self, device: Device, seconds: float) -> None:
        self._model, self.context_length = device.model, device.model.context_length
        self.seconds, self.steps = seconds, 0

    def reset(self) -> None:
        self._model.reset()

    def prefill(self, token_ids: Any) -> Any:
        return self._model.prefill(token_ids)

    def decode(self, token_id: int) -> Any:
        self.steps += 1
        time.sleep(self.seconds)
        return self._model.decode(token_id)


def test_more_than_may_wait_are_told_so_and_the_rest_are_answered(
    serve: Any, device: Device, tiny_prompts: list[str]
) -> None:
    served = serve(device=replace(device, model=Slow(device, 0.02)), queue=4)

    def ask(prompt: str) -> tuple[int, str]:
        reply = httpx2.post(f"{served.url}/v1/chat/completions", json={"messages": one(prompt)}, timeout=60)
        return reply.status_code, reply.json().get("choices", [{"message": {"content": ""}}])[0]["message"]["content"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, tiny_prompts[:16]))
    codes = [code for code, _ in answers]
    assert set(codes) == {200, 429}
    for prompt, (code, text) in zip(tiny_prompts, answers, strict=False):
        if code == 200:
            assert text == served.session.ask(prompt).text  # none mixed up


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_its_generation(
    serve: Any, device: Device, prompts: dict[bool, str], stream: bool
) -> None:
    slow = Slow(device, 0.1)
    served = serve(device=replace(device, model=slow))
    body = {"messages": one(prompts[False]), "stream": stream}
    if stream:
        with httpx2.stream("POST", f"{served.url}/v1/chat/completions", json=body, timeout=30) as reply:
            next(reply.iter_lines())
    else:
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(f"{served.url}/v1/chat/completions", json=body, timeout=0.4)
    wait_until_under_way(served, 0)
    steps = slow.steps
    time.sleep(0.4)
    assert slow.steps == steps
    assert "edgekit_answers_total{" not in httpx2.get(f"{served.url}/metrics").text


class Held(Slow):
    """A device model that goes no further until it is let."""

    def __init__(self, device: Device) -> None:
        super().__init__(device, 0.0)
        self.go = threading.Event()

    def decode(self, token_id: int) -> Any:
        self.go.wait(60)
        return super().decode(token_id)


def wait_until_under_way(served: Any, number: int) -> None:
    for _ in range(400):
        if f"edgekit_requests_under_way {number}.0" in httpx2.get(f"{served.url}/metrics").text:
            return
        time.sleep(0.05)
    pytest.fail(f"not {number} under way")


def in_background(served: Any, prompt: str) -> tuple[threading.Thread, list[Any]]:
    """A client that asks ``prompt``, under way when this returns, and where its answer will be."""
    answers: list[Any] = []

    def ask() -> None:
        answers.append(client_of(served).chat.completions.create(model="x", messages=one(prompt)))

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until_under_way(served, 1)
    return thread, answers


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_before_its_turn_frees_its_place(
    serve: Any, device: Device, prompts: dict[bool, str], stream: bool
) -> None:
    held = Held(device)
    served = serve(device=replace(device, model=held))
    thread, answers = in_background(served, prompts[False])
    body = {"messages": one(prompts[False]), "stream": stream}
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(f"{served.url}/v1/chat/completions", json=body, timeout=0.2)
    wait_until_under_way(served, 1)
    assert not answers
    held.go.set()
    thread.join(60)
    assert answers[0].choices[0].message.content


def test_requests_leave_nothing_behind(serve: Any, server: Any, prompts: dict[bool, str]) -> None:
    served = serve(cloud_at(server))
    client = client_of(served)

    def left_after(rounds: int) -> Counter[str]:
        for _ in range(rounds):
            for prompt in prompts.values():
                client.chat.completions.create(model="x", messages=one(prompt))
                list(client.chat.completions.create(model="x", messages=one(prompt), stream=True))
        wait_until_under_way(served, 0)
        gc.collect()
        kinds = (Running, Stop, Stream, HybridAnswer, DecodeSession, CloudRequest)
        return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in kinds)

    assert left_after(1) == left_after(4)


def test_answers_are_not_lost_where_the_budget_s_file_is(
    serve: Any, server: Any, prompts: dict[bool, str], tmp_path: Path
) -> None:
    budget = Budget(tmp_path / "b", parse_limits(["5/day"]))
    served = serve(cloud_at(server), HandOffRules(budget=budget))
    (tmp_path / "b").unlink()
    (tmp_path / "b").mkdir()
    for streams in (False, True):
        body = {"model": "x", "messages": one(prompts[False]), "stream": streams}
        reply = httpx2.post(f"{served.url}/v1/chat/completions", json=body)
        assert (reply.status_code, '"budget_left":null' in reply.text.replace(" ", "")) == (200, True)
    state = httpx2.get(f"{served.url}/v1/edgekit/state")
    assert (state.status_code, state.json()["error"]["type"]) == (503, "server_error")


def test_budgets_hold_over_many_clients(serve: Any, server: Any, prompts: dict[bool, str], tmp_path: Path) -> None:
    budget = Budget(tmp_path / "b", parse_limits(["5/day"]))
    served = serve(cloud_at(server), HandOffRules(budget=budget, audit=AuditLog(tmp_path / "log")))

    def ask(_: int) -> str:
        reply = client_of(served).chat.completions.create(model="x", messages=one(prompts[True]))
        return (reply.model_extra or {})["edgekit"]["reason"]

    with ThreadPoolExecutor(8) as pool:
        reasons = list(pool.map(ask, range(24)))
    assert (reasons.count("marker"), reasons.count("budget")) == (5, 19)
    assert len(server.seen) == 5
    state = httpx2.get(f"{served.url}/v1/edgekit/state").json()
    assert (state["calls"], state["budget_left"]) == (5, {"5/day": 0})
    lines = httpx2.get(f"{served.url}/v1/edgekit/log").json()["lines"]
    assert sum(line["event"] == "sent" for line in lines) == 5


def test_shutting_down_finishes_what_runs(serve: Any, device: Device, prompts: dict[bool, str]) -> None:
    served = serve(device=replace(device, model=Slow(device, 0.05)))
    thread, answers = in_background(served, prompts[False])
    served.stop()
    thread.join(20)
    assert answers[0].choices[0].message.content
