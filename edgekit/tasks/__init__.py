"""Tasks by name. A new task is one file here and one line in the table."""

from __future__ import annotations

from importlib import import_module

from edgekit.errors import EdgekitError
from edgekit.tasks.base import Problem, Split, Task

TASKS = {
    "countdown": "countdown.TASK",
    "countdown-easy": "countdown.EASY",
    "countdown-hard": "countdown.HARD",
    "arithmetic": "arithmetic.TASK",
    "word-problems": "word_problems.TASK",
    "word-problems-easy": "word_problems.EASY",
    "word-problems-hard": "word_problems.HARD",
}
"""The module in this folder that makes each task, and its name there."""

__all__ = ["TASKS", "Problem", "Split", "Task", "get_task"]


def get_task(name: str) -> Task:
    """The task called ``name``."""
    if name not in TASKS:
        raise EdgekitError(f"unknown task: {name}. edgekit has {', '.join(TASKS)}. Choose one.")
    module, _, attribute = TASKS[name].partition(".")
    task: Task = getattr(import_module(f"edgekit.tasks.{module}"), attribute)
    return task
