"""The hierarchical reward: a right local answer pays more than a good hand-off, which pays more than form."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import ConfigError
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import RoutingSpec


@dataclass(frozen=True)
class Outcome:
    """What one response came to. ``called`` excludes the other two."""

    called: bool
    correct: bool
    well_formed: bool


@dataclass(frozen=True)
class RewardScale:
    """alpha_a (right local answer), alpha_c (call the cloud answers rightly), alpha_f (form)."""

    alpha_a: float = 1.0
    alpha_c: float = 0.25
    alpha_f: float = 0.0

    def __post_init__(self) -> None:
        if not self.alpha_a > self.alpha_c > self.alpha_f >= 0:
            values = f"{self.alpha_a}, {self.alpha_c}, {self.alpha_f}"
            raise ConfigError("reward", [f"alpha_a > alpha_c > alpha_f >= 0 does not hold for {values}"])

    def reward(self, outcome: Outcome, cloud_correct: bool) -> float:
        """The reward of one response; ``cloud_correct`` says whether the cloud answers its prompt rightly."""
        if outcome.called:
            return self.alpha_c if cloud_correct else 0.0
        right = self.alpha_a if outcome.correct else 0.0
        form = self.alpha_f if outcome.well_formed else 0.0
        return right + form


def emitted_call(decision: Decision) -> bool:
    """True if the policy itself asked for the cloud.

    A response cut off without an answer may be handed off by the phone too, but it earns nothing here:
    otherwise rambling on would pay like asking.
    """
    return decision.reason == "marker"


def well_formed(decision: Decision, spec: RoutingSpec) -> bool:
    """True if the response ends in one non-empty answer that stands alone on its line."""
    if not decision.answer or decision.text.count(spec.answer.open) != 1:
        return False
    line = decision.text.rpartition("\n")[2].strip()
    return line.startswith(spec.answer.open) and line.endswith(spec.answer.close)
