"""Which problems a run trains on, and which of them each step takes."""

from __future__ import annotations

import numpy as np

from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import Policy
from edgekit.tasks.base import Problem, Task
from edgekit.train.config import TrainConfig
from edgekit.train.streams import Use, stream_seed


def training_pool(task: Task, policy: Policy, config: TrainConfig) -> list[Problem]:
    """``config.train_pool`` training problems, less those whose prompt is longer than it allows.

    Raises :class:`EdgekitError` if too few are left for a step.
    """
    pool, limit = task.problems("train", config.train_pool, config.seed), config.max_prompt_tokens
    kept = pool if limit is None else [problem for problem in pool if len(policy.encode(problem.prompt)) <= limit]
    if len(kept) < min(len(pool), config.prompts_per_step):
        raise EdgekitError(
            f"prompts too long: {len(kept)} of {len(pool)} have at most {limit} tokens. "
            f"A step needs {config.prompts_per_step}. Raise max_prompt_tokens or train_pool."
        )
    return kept


def step_problems(pool: list[Problem], step: int, config: TrainConfig) -> list[Problem]:
    """The problems of ``step`` (from 1): the pool in an order shuffled anew each epoch."""
    chosen: list[Problem] = []
    size = config.prompts_per_step
    for position in range((step - 1) * size, step * size):
        epoch, index = divmod(position, len(pool))
        if not chosen or index == 0:
            order = np.random.default_rng(stream_seed(config.seed, Use.SHUFFLE, epoch)).permutation(len(pool))
        chosen.append(pool[order[index]])
    return chosen
