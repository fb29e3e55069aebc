"""A router judges from outside whether an attempt, or a prompt before any attempt, should go to the cloud."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from edgekit.experiment.attempts import Attempts
from edgekit.policy.checkpoint import Policy

Scorer = Callable[[Attempts], list[float]]
"""A finite score per attempt; higher means rather the cloud."""


Reads = Literal["prompt", "answer"]
"""What a router classifies: the prompt alone, or the response after it."""


class Fit(Protocol):
    """Makes a scorer from what the policy did on training problems; the same seed makes the same scorer."""

    def __call__(self, policy: Policy, train: Attempts, *, seed: int) -> Scorer: ...


@dataclass(frozen=True)
class Router:
    """How to fit it, and whether it reads the prompt only, so that a hand-off costs no token on the device.

    ``is_fitted``: whether it needs labelled attempts; where not, ``fit`` is given others and reads no label.
    ``encoder_reads``: for a classifier of texts, what a pretrained encoder in its place would read. ``samples``: how
    many drawn responses to each problem it looks at; their tokens are the price that a prompt pays for it.
    """

    fit: Fit
    before_attempt: bool
    is_fitted: bool = True
    encoder_reads: Reads | None = None
    samples: int = 0
