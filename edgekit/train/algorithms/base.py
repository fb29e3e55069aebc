"""What an algorithm is: a reward, an advantage, the prompts it keeps, and whom it needs to ask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from edgekit.train.prompt_filter import KeptPrompts, keep_all
from edgekit.train.reward import Outcome, RewardScale

Outcomes = Sequence[Sequence[Outcome]]
"""(P, G): what each of G responses to each of P prompts came to."""


@dataclass(frozen=True)
class Plan:
    """What a batch of P prompts with G responses each teaches.

    rewards, advantages: (P, G) float32. ``kept``: the prompts that update the policy. The update follows
    sum over kept prompts and their responses of advantage * grad log pi(y | x), divided by ``divisor``: how many are
    kept, unless an algorithm says otherwise.
    """

    rewards: Tensor
    advantages: Tensor
    kept: KeptPrompts
    divisor: int


@dataclass
class Algorithm(ABC):
    """An algorithm between steps. ``call_price``: what a call costs, DA-GRPO's lambda and the only state there is."""

    token_budget: int
    call_price: float = field(default=0.0, init=False)

    @abstractmethod
    def reward(self, outcome: Outcome, cloud_correct: bool) -> float:
        """What one response earns; ``cloud_correct`` says whether the cloud answers its prompt rightly."""

    @abstractmethod
    def advantages(self, rewards: Tensor, outcomes: Outcomes) -> Tensor:
        """Advantages (P, G) of ``rewards`` (P, G)."""

    def keep(self, solved: Sequence[bool], cloud_correct: Sequence[bool], *, seed: int) -> KeptPrompts:
        """The prompts that update the policy: all, unless an algorithm filters them."""
        return keep_all(solved, cloud_correct)

    def needs_cloud(self, group: Sequence[Outcome]) -> bool:
        """Whether the plan depends on the cloud's answer to this prompt: it pays only where someone called."""
        return any(outcome.called for outcome in group)

    def observe(self, outcomes: Outcomes) -> dict[str, Any]:
        """Take note of a batch whose plan is made; returns what to record of the algorithm itself in its step."""
        return {}

    def plan(self, outcomes: Outcomes, cloud_correct: Sequence[bool], *, seed: int) -> Plan:
        """Rewards, kept prompts and advantages of a batch.

        ``cloud_correct`` (P,), false where the cloud was not asked; ``seed`` decides which prompts a filter drops.
        """
        pairs = zip(outcomes, cloud_correct, strict=True)
        rewards = torch.tensor([[self.reward(outcome, cloud) for outcome in group] for group, cloud in pairs])
        solved = [any(outcome.correct for outcome in group) for group in outcomes]
        kept = self.keep(solved, cloud_correct, seed=seed)
        return Plan(rewards, self.advantages(rewards, outcomes), kept, len(kept.indices))


@dataclass
class Hierarchical(Algorithm):
    """An algorithm with the paper's hierarchical reward."""

    alpha_a: float
    alpha_c: float
    alpha_f: float
    alpha_e: float

    def reward(self, outcome: Outcome, cloud_correct: bool) -> float:
        """See :class:`RewardScale`."""
        scale = RewardScale(self.alpha_a, self.alpha_c, self.alpha_f, self.alpha_e)
        return scale.reward(outcome, cloud_correct, self.token_budget)


def lengths(outcomes: Outcomes) -> Tensor:
    """The responses' lengths in tokens, (P, G) int64."""
    return torch.tensor([[outcome.tokens for outcome in group] for group in outcomes])
