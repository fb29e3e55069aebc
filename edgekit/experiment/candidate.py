"""A trained policy on the problems that methods are fitted and judged on: what it does alone, worked out if needed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgekit.cloud.ledger import CloudLedger
from edgekit.experiment.attempts import Attempts, attempt, with_samples
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.policy.device import DeviceName, open_device
from edgekit.progress import Say
from edgekit.tasks.base import Problem, Task

CHANCE = 3.0
"""Standard errors by which a difficulty's shares of validation and test may differ unremarked."""


@dataclass(frozen=True)
class Exam:
    """The problems all methods are fitted and judged on, and who answers their calls."""

    task: Task
    validation: list[Problem]
    test: list[Problem]
    router_train: list[Problem]
    cloud: CloudLedger
    router_encoder: str | None = None
    trigger_tries: int = 0
    """How many tokens are tried at each place of a trigger; 0: none is searched."""

    @cached_property
    def cloud_validation(self) -> list[bool]:
        """Whether the cloud answers each validation problem rightly."""
        return self.cloud.are_right(self.validation)

    @cached_property
    def cloud_test(self) -> list[bool]:
        """Whether the cloud answers each test problem rightly."""
        return self.cloud.are_right(self.test)

    @property
    def caution(self) -> str:
        """What to know about the problems: a threshold fitted on another mix than the test's misses its budget."""
        shares = [Counter(problem.difficulty for problem in problems) for problems in (self.validation, self.test)]
        n, m = len(self.validation), len(self.test)
        for level in sorted(shares[0] | shares[1]):
            one, other, both = shares[0][level] / n, shares[1][level] / m, (shares[0] + shares[1])[level] / (n + m)
            by_chance = CHANCE * math.sqrt(both * (1 - both) * (1 / n + 1 / m))
            if abs(one - other) > by_chance:
                where = f"{one:.2f} of the validation and {other:.2f} of the test problems are of difficulty {level}"
                return f"Thresholds fit another mix: {where}. A split has run out, ask for fewer."
        return ""


@dataclass
class Candidate:
    """A trained policy and what it does alone, each part worked out when it is first asked for."""

    folder: Path
    seed: int
    exam: Exam
    tell: Say
    device: DeviceName = "cpu"
    """As in the training settings."""

    @cached_property
    def policy(self) -> Policy:
        """The policy; a bias calibrated elsewhere is forgotten."""
        policy = load_policy(self.folder)
        policy.model.to(open_device(self.device))
        policy.routing = policy.routing.uncalibrated()
        return policy

    @cached_property
    def validation(self) -> Attempts:
        """Alone on the validation problems."""
        return self._alone(self.exam.validation, "validation problems")

    @cached_property
    def test(self) -> Attempts:
        """Alone on the test problems."""
        return self._alone(self.exam.test, "test problems")

    @cached_property
    def router_train(self) -> Attempts:
        """Alone on the problems that routers are fitted to."""
        return self._alone(self.exam.router_train, "training problems for routers")

    def sampled(self, attempts: Attempts, count: int) -> Attempts:
        """``attempts`` with ``count`` samples each, drawn by the run's seed; as they are for a count of 0."""

        def note(done: int, total: int, _: str = "", /) -> None:
            self.tell(f"drawing {count} samples: {done}/{total}")

        return with_samples(self.policy, attempts, count, seed=self.seed, on_progress=note) if count else attempts

    def _alone(self, problems: list[Problem], what: str) -> Attempts:
        def note(done: int, total: int, _: str = "", /) -> None:
            self.tell(f"{what}, alone: {done}/{total}")

        return attempt(self.policy, self.exam.task, problems, on_progress=note)
