"""A server of the tiny policy on loopback, as a user's programs meet it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from edgekit.hybrid.device import Device
from edgekit.hybrid.session import HandOffRules, HybridSession
from edgekit.policy.checkpoint import load_policy
from edgekit.policy.reference import ReferenceModel
from edgekit.serve.app import ServeSettings, create_app

Serve = Callable[..., Any]


@dataclass
class Served:
    """A running server."""

    url: str
    session: HybridSession
    server: uvicorn.Server


@contextmanager
def running(session: HybridSession, settings: ServeSettings) -> Iterator[Served]:
    config = uvicorn.Config(create_app(session, settings), log_level="warning", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", session, server)
    server.should_exit = True
    thread.join(20)
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
