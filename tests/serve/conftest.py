"""A server of the tiny policy on loopback, as a user's programs meet it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgekit.cloud.request import Message
from edgekit.hybrid.device import Device
from edgekit.hybrid.session import HandOffRules, HybridSession
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.reference import ReferenceModel
from edgekit.serve.app import ServeSettings, create_app
from edgekit.serve.server import GRACE_S, Server

Serve = Callable[..., Any]


@dataclass
class Served:
    """A running server."""

    url: str
    session: HybridSession
    stop: Callable[[], None]


@contextmanager
def running(session: HybridSession, settings: ServeSettings) -> Iterator[Served]:
    server = Server(create_app(session, settings), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield Served(server.url.rstrip("/"), session, server.stop)
    server.stop()
    thread.join(GRACE_S + 10)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def device(tiny_policy_folder: Path) -> Device:
    policy = load_policy(tiny_policy_folder)
    return Device(ReferenceModel(policy.model), policy.routing, policy.vocabulary, policy.encode)


@pytest.fixture
def serve(device: Device) -> Iterator[Serve]:
    """Call it with a cloud, rules, another device, and settings."""
    opened: list[Any] = []

    def start(cloud: Any = None, rules: HandOffRules | None = None, device: Device = device, **settings: Any) -> Served:
        given = ServeSettings(model="tiny", **settings)
        opened.append(running(HybridSession(device, cloud, rules), given))
        return opened[-1].__enter__()

    yield start
    for context in opened:
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def prompts(device: Device, tiny_prompts: list[str]) -> dict[bool, str]:
    """A prompt that the policy hands off (True), and one that it keeps."""
    return {device.decide(device.prompt_ids([Message("user", prompt)])).called: prompt for prompt in tiny_prompts}
