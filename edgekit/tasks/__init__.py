"""Tasks by name. A new task is one file here and one line in the table."""

from __future__ import annotations

from importlib import import_module

from edgekit.errors import EdgekitError
from edgekit.tasks.base import Problem, Split, Task

TASKS = {"countdown": "edgekit.tasks.countdown", "arithmetic": "edgekit.tasks.arithmetic"}

__all__ = ["TASKS", "Problem", "Split", "Task", "get_task"]


def get_task(name: str) -> Task:
    """The task called ``name``; its module holds it as ``TASK``."""
    if name not in TASKS:
        raise EdgekitError(f"unknown task: {name}. edgekit has {', '.join(TASKS)}. Choose one.")
    task: Task = import_module(TASKS[name]).TASK
    return task
