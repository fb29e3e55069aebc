"""Agreement of samples: how many of several drawn responses answer as the greedy one does. Nothing is fitted.

Self-consistency (Wang et al., arXiv 2203.11171) as a reason to ask the cloud, as in CARGO (arXiv 2607.20481). It needs
no training and no look inside the model; every prompt, kept or not, pays for all the samples.
"""

from __future__ import annotations

from edgekit.experiment.attempts import Attempts
from edgekit.experiment.routers.base import Scorer
from edgekit.policy.checkpoint import Policy
from edgekit.routing.decoder import Decision

SAMPLES = 5
"""Responses drawn for each prompt: scores come in steps of a fifth."""


def fit_sample_agreement(policy: Policy, train: Attempts, *, seed: int) -> Scorer:
    """Score = the share of an attempt's samples whose answer is another text than the greedy one's, spaces aside.

    A sample without an answer, or one that asks for the cloud, does not agree. ``policy``, ``train`` and ``seed`` are
    there for the shape of a fit and change nothing.
    """
    del policy, train, seed
    return lambda attempts: [
        1 - sum(agrees(decision, sample) for sample in samples) / len(samples)
        for decision, samples in zip(attempts.decisions, attempts.samples, strict=True)
    ]


def agrees(one: Decision, other: Decision) -> bool:
    """Whether both end in an answer, and in the same one."""
    if one.answer is None or other.answer is None or other.called:
        return False
    return "".join(one.answer.split()) == "".join(other.answer.split())
