"""What each sampled response came to, by the task's own grade."""

from __future__ import annotations

from edgekit.rollout.response import Group
from edgekit.routing.spec import RoutingSpec
from edgekit.tasks.base import Problem, Task
from edgekit.train.reward import Outcome, emitted_call, well_formed


def grade_group(task: Task, problem: Problem, group: Group, routing: RoutingSpec) -> list[Outcome]:
    """The outcomes of a group of responses to ``problem``; equal answers are graded once."""
    answers = {response.answer for response in group.responses if response.answer is not None}
    right = {answer: task.grade(problem, answer) for answer in answers}
    return [
        Outcome(
            called=emitted_call(response),
            correct=response.answer is not None and right[response.answer],
            well_formed=well_formed(response, routing),
            tokens=len(response.token_ids),
            answered=response.answer is not None,
        )
        for response in group.responses
    ]
