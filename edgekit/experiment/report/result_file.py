"""What a file of an experiment's results/ holds, checked before any of it is believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class MadeDecisions(BaseModel):
    """What was decided of each problem, at a budget or at the natural threshold."""

    call_fraction: float | None = Field(default=None, ge=0, le=1)
    calls: list[bool]
    correct: list[bool]
    device_tokens: list[Annotated[int, Field(ge=0, lt=2**53)]]


class BudgetDecisions(MadeDecisions):
    call_fraction: float = Field(ge=0, le=1)


class TestedProblems(BaseModel):
    ids: list[str] = Field(min_length=1)
    difficulty: list[str | int | float]
    local_correct: list[bool]
    cloud_correct: list[bool]
    scores: list[float | None]


class RaisedCalls(BaseModel):
    call_fraction: Share
    calls_before: Share
    calls_after: Share
    honest_before: Share
    honest_after: Share


class FoundTrigger(BaseModel):
    text: str
    tries: Count
    budgets: list[RaisedCalls]


class ResultFile(BaseModel):
    """A file of results/, every list as long as the others."""

    method: str
    seed: Count
    algorithm: str | None = None
    task: str
    n_validation: Count
    cloud_calls_in_training: Count
    training_prompts: Count = 0
    test: TestedProblems
    budgets: list[BudgetDecisions] = Field(min_length=1)
    natural: MadeDecisions | None = None
    trigger: FoundTrigger | None = None
    notes: str | None = None

    @model_validator(mode="after")
    def _are_as_long(self) -> ResultFile:
        test = self.test
        lists: list[Sequence[Any]] = [test.ids, test.difficulty, test.local_correct, test.cloud_correct, test.scores]
        for made in [*self.budgets, *([self.natural] if self.natural is not None else [])]:
            lists += [made.calls, made.correct, made.device_tokens]
        if len(lengths := set(map(len, lists))) > 1:
            raise ValueError(f"its lists have {sorted(lengths)} entries, not all as many")
        if any(score is not None and math.isnan(score) for score in test.scores):
            raise ValueError("a score of it is no number")
        return self
