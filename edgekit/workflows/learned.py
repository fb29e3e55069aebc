"""Learning from a cloud, and measuring with one: who gives the references, and what that costs at most."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, TypeGuard

from edgekit.cloud.answers import KeptCloud
from edgekit.cloud.bill import Bill, bill_of
from edgekit.cloud.referee import CloudReferee, require_judgeable
from edgekit.errors import EdgekitError
from edgekit.tasks.answered import JUDGE, Answered
from edgekit.warm_start.bases import is_pretrained

if TYPE_CHECKING:
    from edgekit.cloud.client import Cloud
    from edgekit.cloud.request import Price
    from edgekit.tasks.base import Task
    from edgekit.train.config import TrainConfig

ALL = 10**9


def appoint(task: Task, cloud: Cloud | None) -> None:
    """Let ``cloud`` give the references of a task without answers of its own; nothing for any other task.

    Raises :class:`EdgekitError` for a cloud that has none.
    """
    if not isinstance(task, Answered):
        return
    if not isinstance(cloud, KeptCloud):
        named = "none" if cloud is None else cloud.name
        raise EdgekitError(
            f"cloud: {named}. The prompts of {task.name}#{task.rule} have no answers, so it knows none. "
            "Name a server: openai:MODEL@BASE_URL."
        )
    task.appoint(CloudReferee(cloud))


def is_judged(task: Task) -> TypeGuard[Answered]:
    """Whether a judge grades the answers to ``task``."""
    return isinstance(task, Answered) and task.rule == JUDGE


def require_judge_reads(task: Task) -> None:
    """Raise :class:`EdgekitError` if a judge grades ``task`` and one of its prompts is too long for it.

    Otherwise that would end long work in its middle.
    """
    if is_judged(task):
        require_judgeable(chain.from_iterable(task.splits.values()))


def judge_of(cloud: Cloud | None) -> Answered:
    """``cloud`` as the judge of answers to any problems: its grade says whether an answer is as good as the cloud's."""
    judge = Answered("judge", JUDGE, dict, f"judge:{id(cloud)}")
    appoint(judge, cloud)
    return judge


def training_bill(config: TrainConfig, task: Task, cloud: Cloud, price: Price | None = None) -> Bill | None:
    """What training may ask of a real cloud; None for the oracle."""
    if not isinstance(cloud, KeptCloud):
        return None
    drawn = config.steps * config.prompts_per_step + 1  # one tries the cloud
    problems = task.problems("train", config.train_pool, config.seed)
    if not isinstance(task, Answered):
        return bill_of(cloud, problems, most=drawn, price=price)
    held_out = task.problems("validation", config.eval_n, config.seed) if config.eval_n else []
    most: int | None = drawn + len(held_out)
    if is_pretrained(config.base):  # its warm start may want any answer
        problems, most = task.problems("train", ALL, config.seed), None
    evaluations = math.ceil(config.steps / config.eval_every)
    verdicts = 2 * ((drawn - 1) * config.group_size + 2 * evaluations * len(held_out)) if is_judged(task) else 0
    return bill_of(cloud, [*problems, *held_out], most=most, verdicts=verdicts, price=price)
