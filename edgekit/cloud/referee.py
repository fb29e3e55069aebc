"""A cloud as the referee of prompts without answers: it gives the references, and judges by a rubric.

The judge is the same model behind the same client. It sees question and answers as JSON, so that no answer can pass for
more than an answer, and is asked in both orders: a judge that prefers a place convinces nobody. Verdicts are kept.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgekit.cloud.answers import KeptCloud
from edgekit.cloud.client import answer_all
from edgekit.cloud.openai_client import final_answer
from edgekit.cloud.request import CloudRequest, Message
from edgekit.errors import EdgekitError
from edgekit.tasks.base import Problem

RUBRIC = Path(__file__).parent / "judge_rubric.md"
EQUAL = "EQUAL"
MOST_CHARACTERS = 4_000
"""A longer answer is not as good: what a judge is sent, and what that costs, has an end."""
MOST_GIVEN = 16_000
"""Characters of a question, and of a reference: what a file holds and a cloud replies is as long as they like."""


@functools.cache
def rubric() -> str:
    """What the judge is told."""
    return RUBRIC.read_text(encoding="utf-8").strip()


def require_judgeable(problems: Iterable[Problem]) -> None:
    """Raise :class:`EdgekitError` for the first of ``problems`` that is too long to be sent to a judge so often."""
    for problem in problems:
        if len(problem.prompt) > MOST_GIVEN:
            raise EdgekitError(
                f"cannot be judged: problem {problem.id}. Its question has {len(problem.prompt):,} characters, a judge "
                f"is sent at most {MOST_GIVEN:,}. Leave the problem out, or grade by the rule agrees."
            )


class CloudReferee:
    """``cloud`` as a :class:`edgekit.tasks.answered.Referee`."""

    def __init__(self, cloud: KeptCloud) -> None:
        self.cloud = cloud

    def answer(self, problem: Problem) -> str:
        """The cloud's answer."""
        return self.cloud.answer(problem)

    def gather(self, problems: Sequence[Problem]) -> None:
        """Have the cloud answer ``problems``, as many at a time as it takes."""
        for _ in answer_all(self.cloud, problems):
            pass

    def as_good(self, problem: Problem, answer: str, reference: str) -> bool:
        """Whether the judge finds ``answer`` as good as ``reference``, or better, wherever it stands.

        What is too long to be sent is not: a cloud's reply is as long as it likes, and must not end a training. Raises
        :class:`EdgekitError` for a question that is too long; those are known before.
        """
        require_judgeable([problem])
        if len(answer) > MOST_CHARACTERS or len(reference) > MOST_GIVEN:
            return False
        first = self._verdict(problem, answer, reference)
        return first in ("A", EQUAL) and self._verdict(problem, reference, answer) in ("B", EQUAL)

    def _verdict(self, problem: Problem, a: str, b: str) -> str:
        return final_answer(self.cloud.complete(self.question(problem, a, b))).upper()

    def question(self, problem: Problem, a: str, b: str) -> CloudRequest:
        """What the judge is sent."""
        shown = json.dumps({"question": problem.prompt, "answer_a": a, "answer_b": b}, ensure_ascii=False, indent=1)
        return self.cloud.request((Message("system", rubric()), Message("user", shown)))
