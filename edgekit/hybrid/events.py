"""What happens while a prompt is answered, in order, and the answer at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekit.cloud.request import CloudRequest
from edgekit.routing.decoder import Route

Reason = Literal["answer", "marker", "no_answer", "too_long", "device_failed", "budget", "offline", "consent"]


@dataclass(frozen=True)
class DeviceText:
    """More visible text of the device model; the marker's is never among it."""

    text: str


@dataclass(frozen=True)
class HandOff:
    """The prompt goes to the cloud: ``request`` is what is sent, to the letter. What the device wrote is void."""

    reason: Reason
    request: CloudRequest


@dataclass(frozen=True)
class ConsentWanted:
    """The user is asked whether ``request`` may be sent."""

    request: CloudRequest


@dataclass(frozen=True)
class CloudText:
    """More text of the cloud's reply, with what was redacted put back."""

    text: str


@dataclass(frozen=True)
class Restart:
    """The device answers after all, with its marker forbidden; what was shown so far is void."""

    reason: Reason
    notice: str


Event = DeviceText | HandOff | ConsentWanted | CloudText | Restart


@dataclass(frozen=True)
class HybridAnswer:
    """What the user gets.

    ``route``: the side that answered. ``reason``: ``answer`` (the device's own), ``marker`` or ``no_answer`` (the
    policy's, handed off), ``too_long`` and ``device_failed`` (the device could not, handed off), and where a hand-off
    was due but the device's attempt stands: ``budget``, ``offline``, ``consent``. Such an attempt is ``unsure``: the
    policy itself did not trust it. ``text`` and ``answer`` are empty and None where neither side has anything to say.
    """

    route: Route
    reason: Reason
    text: str
    answer: str | None
    marker_margin: float
    prompt_tokens: int
    generated_tokens: int
    local_ms: float
    cloud_ms: float | None = None
    cost_usd: float | None = None
    unsure: bool = False
    notice: str | None = None
    correct: bool | None = None
    """Whether ``answer`` is right, where a task can tell."""
