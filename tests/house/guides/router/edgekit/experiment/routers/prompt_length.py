"""Prompt length: the longer the prompt, the rather the cloud. Nothing is fitted."""

from __future__ import annotations

from edgekit.experiment.attempts import Attempts
from edgekit.experiment.routers.base import Router, Scorer
from edgekit.policy.checkpoint import Policy


def fit_prompt_length(policy: Policy, train: Attempts, *, seed: int) -> Scorer:
    """Score = characters of the prompt."""
    del policy, train, seed
    return lambda attempts: [float(len(problem.prompt)) for problem in attempts.problems]


PROMPT_LENGTH = Router(fit_prompt_length, before_attempt=True)
