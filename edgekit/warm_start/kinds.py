"""The ways to warm-start a pretrained model, by name: what each can be told, what it writes, and what does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from edgekit.errors import ConfigError
from edgekit.faults import faults_of
from edgekit.policy.tokens import ANSWER_CLOSE, ANSWER_OPEN, MARKER
from edgekit.tasks import get_task
from edgekit.tasks.countdown import Countdown
from edgekit.warm_start.answers import AnswersSettings, teach_answers
from edgekit.warm_start.attempts import AttemptsSettings, teach_attempts
from edgekit.warm_start.traces import TracesSettings, settle_traces, teach_traces

WarmStart = Literal["answers", "attempts", "traces"]
_ENDING = (
    f"give only the final answer between {ANSWER_OPEN} and {ANSWER_CLOSE}. "
    f"If you cannot solve it, write {MARKER} on a line of its own instead of an answer."
)


@dataclass(frozen=True)
class Kind:
    """One way to warm-start.

    version: raised when its code changes what it makes, so that no older cached one is taken.
    template: the prompt's where the model's chat format is not used.
    instruction: the system prompt in a chat format.
    teach: (policy, task, settings, seed=, work=, on_progress=), changes the policy in place.
    tasks: what a task must be for it.
    settle: (policy, task, settings, recipe, seed=, work=, on_progress=), goes on on a recipe's grid and leaves
        the floats behind it; None: it does not. Either way a run on a grid rounds the warm-started policy itself.
    """

    version: int
    settings: type[BaseModel]
    template: str
    instruction: str
    max_new_tokens: int
    teach: Callable[..., None]
    tasks: type = object
    settle: Callable[..., None] | None = None


KINDS: dict[WarmStart, Kind] = {
    "answers": Kind(
        version=3,
        settings=AnswersSettings,
        template="{prompt} =",
        instruction=f"Solve the task. {_ENDING[0].upper()}{_ENDING[1:]}",
        max_new_tokens=12,
        teach=teach_answers,
    ),
    "attempts": Kind(
        version=3,
        settings=AttemptsSettings,
        template="{prompt} =",
        instruction=f"Solve the task. Reason step by step between <think> and </think>, then {_ENDING}",
        max_new_tokens=12,
        teach=teach_attempts,
    ),
    "traces": Kind(
        version=1,
        settings=TracesSettings,
        template="{prompt}\n",
        instruction=f"Solve the task. Make attempts, a line each, that end in yes or no; then {_ENDING}",
        max_new_tokens=160,
        teach=teach_traces,
        tasks=Countdown,
        settle=settle_traces,
    ),
}


def read_settings(kind: WarmStart, given: Mapping[str, Any]) -> BaseModel:
    """The settings of ``kind`` with those ``given``. Raises :class:`ConfigError` listing every problem."""
    try:
        return KINDS[kind].settings.model_validate(dict(given))
    except ValidationError as error:
        faults = [str(fault) for fault in faults_of(error, KINDS[kind].settings)]
        raise ConfigError(f"warm_start_settings of {kind}", faults) from None


def start_problems(kind: WarmStart, given: Mapping[str, Any], task: str) -> list[str]:
    """Why ``kind`` cannot warm-start for ``task`` with the settings ``given``; empty if it can."""
    problems = []
    try:
        read_settings(kind, given)
    except ConfigError as error:
        problems += [f"warm_start_settings.{problem}" for problem in error.problems]
    if KINDS[kind].tasks is not object and not isinstance(get_task(task), KINDS[kind].tasks):
        problems.append(f"warm_start: {task} is not a kind of countdown, and the teacher of {kind} knows no other task")
    return problems
