"""Where a run's responses come from: sampled here, or by a server that takes the run's weights before each step."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edgekit.atomic_write import new_directory
from edgekit.policy.checkpoint import Policy, save_policy
from edgekit.rollout.response import Group
from edgekit.rollout.sampler import Sampler
from edgekit.rollout.server import KEY_VARIABLE, RolloutServer, server_address
from edgekit.tasks.base import Problem
from edgekit.train.config import TrainConfig
from edgekit.train.parallel import Ranks
from edgekit.train.streams import Use, stream_seed

SERVED = "served_policy"
"""Where, in a run's directory, its present weights lie for a rollout server to read."""


class Responses(Protocol):
    """Samples groups of responses from the policy as it is now."""

    def sample(self, step: int, problems: Sequence[Problem]) -> list[Group]:
        """A group for each of ``problems``, this process's share of the step's."""


def responses_of(config: TrainConfig, policy: Policy, run_dir: Path, ranks: Ranks) -> Responses:
    """What ``config.rollouts`` names. Raises :class:`EdgekitError` if its server is not there."""
    address = server_address(config.rollouts)
    if address is None:
        return SampledHere(config, policy, ranks)
    server = RolloutServer(*address, os.environ.get(KEY_VARIABLE, ""))
    ranks.from_first(server.check)
    return Served(config, policy, ranks, server, run_dir / SERVED)


class SampledHere:
    """By the run's own model, whose sampler keeps its memory from step to step where that pays."""

    def __init__(self, config: TrainConfig, policy: Policy, ranks: Ranks) -> None:
        self.config, self.policy, self.ranks = config, policy, ranks
        self.sampler = Sampler(
            policy, config.temperature, rows_per_batch=config.rows_per_rollout, bfloat16=config.bfloat16
        )

    def sample(self, step: int, problems: Sequence[Problem]) -> list[Group]:
        """See :class:`Responses`."""
        prompts = [self.policy.encode(problem.prompt) for problem in problems]
        return self.sampler.sample(
            prompts, self.config.group_size, **streams_of(self.config, self.ranks, step, prompts)
        )


class Served:
    """By ``server``, which reads the weights from ``folder``."""

    def __init__(self, config: TrainConfig, policy: Policy, ranks: Ranks, server: RolloutServer, folder: Path) -> None:
        self.config, self.policy, self.ranks = config, policy, ranks
        self.server, self.folder = server, folder

    def sample(self, step: int, problems: Sequence[Problem]) -> list[Group]:
        """See :class:`Responses`."""
        self.ranks.from_first(self._publish)
        config, prompts = self.config, [self.policy.encode(problem.prompt) for problem in problems]
        return self.server.sample_groups(
            self.policy,
            prompts,
            config.group_size,
            temperature=config.temperature,
            **streams_of(config, self.ranks, step, prompts),
        )

    def _publish(self) -> None:
        with new_directory(self.folder, marker_file="routing.json") as folder:
            save_policy(self.policy, folder)
        self.server.load_weights(self.folder)


def streams_of(config: TrainConfig, ranks: Ranks, step: int, share: Sequence[object]) -> dict[str, int]:
    """The random streams of this process's ``share`` of the prompts of ``step``."""
    return {"seed": stream_seed(config.seed, Use.SAMPLE, step), "first": ranks.rank * len(share)}
