"""A short supervised exposure before reinforcement learning: the marker at an earlier place of an attempt.

A policy that has only ever given the marker once its attempt was spent will not sample it earlier, so a reward
for early asking has nothing to pay for. Here the policy attempts training problems; in a share of the attempts
that fail, the marker is learned in place of one of the earlier lines. All other attempts are learned as they
are, which changes nothing but holds the rest of the policy in place. The policy so learns to give the marker
early about as often as it fails from there, and reinforcement learning decides what that is worth.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel
from edgekit.rollout.sampler import sample_groups
from edgekit.routing.replay import marker_places
from edgekit.tasks.base import Problem, Task
from edgekit.train.batches import Batch, Sample, batches
from edgekit.train.config import TrainConfig
from edgekit.train.forward_rows import forward_rows
from edgekit.train.loss import response_log_probs
from edgekit.train.weights import TrainedWeights
from edgekit.warm_start.supervised import optimize

BATCH = 96
ATTEMPTS, EPOCHS = 2, 2
"""Responses sampled to each problem, and how often each is seen."""


def teach_early_marker(
    policy: Policy, weights: TrainedWeights, task: Task, pool: Sequence[Problem], config: TrainConfig, *, seed: int
) -> None:
    """Fit ``policy`` to its own attempts at problems of ``pool``, a share of the failing ones cut short.

    ``weights`` are what is trained of it, in place.

    An attempt that called counts as failing. One whose only place for a marker is its beginning is left whole:
    a policy that gives its answer at once has nothing to save. The same arguments give the same weights.
    """
    steps = config.early_marker_steps
    problems = pool[: steps * BATCH // (ATTEMPTS * EPOCHS)]
    samples = _cut_attempts(policy, task, problems, config, seed)
    source = random.Random(f"early-marker/order/{seed}")
    drawn = (source.sample(samples, min(BATCH, len(samples))) for _ in range(steps))

    def backward(chosen: Sequence[Sample]) -> float:
        tokens = sum(len(sample.response_ids) for sample in chosen)
        parts = batches(chosen, forward_rows(config, weights.model, chosen))
        return sum(_backward(weights.model, batch, config, tokens) for batch in parts)

    rate = config.early_marker_learning_rate
    for _ in optimize(
        weights.moved, drawn, backward, steps, rate, warm_up_steps=10, fused=False, refresh=weights.refresh
    ):
        pass


def _cut_attempts(
    policy: Policy, task: Task, problems: Sequence[Problem], config: TrainConfig, seed: int
) -> list[Sample]:
    source = random.Random(f"early-marker/{seed}")
    groups = sample_groups(
        policy,
        [policy.encode(problem.prompt) for problem in problems],
        ATTEMPTS,
        temperature=1.0,
        seed=seed,
        rows_per_batch=config.rows_per_rollout,
    )
    samples = []
    for number, (problem, group) in enumerate(zip(problems, groups, strict=True)):
        for response in group.responses:
            ids = response.token_ids
            places = marker_places(policy.routing, policy.vocabulary, ids)[:-1]
            fails = not task.grade(problem, response.answer)
            if fails and places and source.random() < config.early_marker_share:
                ids = ids[: source.choice(places)] + source.choice(policy.routing.marker.token_ids)
            samples.append(Sample(number, group.prompt_ids, ids, 1.0))
    return samples


def _backward(model: PolicyModel, batch: Batch, config: TrainConfig, tokens: int) -> float:
    device = model.cos.device
    with torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16):
        log_probs = response_log_probs(model, batch.to(device), 1.0, checkpointing=config.gradient_checkpointing)
    loss = -log_probs.sum() / tokens
    torch.autograd.backward(loss)
    return loss.item()
