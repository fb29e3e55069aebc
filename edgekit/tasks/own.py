"""A task from a Python file of the user's own."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import cast

from edgekit.errors import EdgekitError
from edgekit.tasks.base import Task

METHODS = ("problems", "grade", "solve", "parse")


def python_task(path: Path) -> Task:
    """The object ``TASK`` of the Python file at ``path``, which is run to get it.

    Raises EdgekitError if the file cannot be run, or TASK lacks one of the five members.
    """
    name = f"edgekit_task_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise _failure(path, f"line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise _failure(path, f"running it raised {why[:200]}") from None
    task = getattr(module, "TASK", None)
    if task is None:
        raise _failure(path, "it has no object TASK")
    faults = [f"TASK.{method} is no method" for method in METHODS if not callable(getattr(task, method, None))]
    if not isinstance(getattr(task, "name", None), str):
        faults.insert(0, "TASK.name is no text")
    if faults:
        raise _failure(path, ", ".join(faults))
    return cast(Task, task)


def _failure(path: Path, why: str) -> EdgekitError:
    return EdgekitError(f"bad task file: {path}. {why}. docs/tasks.md shows what TASK must have.")
