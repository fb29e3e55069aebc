"""Tasks by name: edgekit's own, a data set of the Hugging Face hub, or a file of the user's."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib import import_module
from pathlib import Path

from edgekit.errors import EdgekitError
from edgekit.tasks.answered import CLOUD_RULES, Answered
from edgekit.tasks.base import Problem, Split, Task
from edgekit.tasks.grading import RULES
from edgekit.tasks.math_judge import require_math_verify

TASKS = {
    "countdown": "countdown.TASK",
    "countdown-easy": "countdown.EASY",
    "countdown-hard": "countdown.HARD",
    "countdown-reasoning": "countdown.REASONING",
    "arithmetic": "arithmetic.TASK",
    "word-problems": "word_problems.TASK",
    "word-problems-easy": "word_problems.EASY",
    "word-problems-hard": "word_problems.HARD",
}
"""The module in this folder that makes each task, and its name there."""
DATA_SETS = {
    "gsm8k": "hub:openai/gsm8k:main",
    "math-lighteval": "hub:DigitalLearningGmbH/MATH-lighteval:default",
    "math-500": "hub:HuggingFaceH4/MATH-500:default",
}
"""Short names of data sets on the hub."""
FORMS = "Your own is FILE.py, FILE.jsonl[#RULE] or hub:DATASET[:CONFIG][#RULE]"
_SOURCE = re.compile(r"(?P<place>(?P<hub>hub:)?.+?)(?:#(?P<rule>[^#/]*))?")

_named: set[str] = set()
"""Resolved names that the user of this process gave."""

__all__ = [
    "DATA_SETS", "TASKS", "Problem", "Split", "Task", "from_copy", "get_task", "is_remote", "jsonl_file", "name_task",
    "resolve_task", "task_content", "task_label",
]  # fmt: skip


def resolve_task(name: str) -> str:
    """``name``, with a path in it made absolute, so that it means the same from every directory.

    Raises EdgekitError for a name edgekit does not know, a file that is not there, or an unknown rule.
    """
    if name in TASKS or name in DATA_SETS:
        return name
    place, rule = _parts(name)
    suffix = f"#{rule}" if rule else ""
    if place.startswith("hub:"):
        folder, _, config = place.removeprefix("hub:").partition(":")
        path = Path(folder).expanduser()
        if path.is_dir():
            return f"hub:{path.resolve()}{f':{config}' if config else ''}{suffix}"
        if folder.startswith((".", "/", "~")):
            raise EdgekitError(f"no data set folder: {folder}. There is no such folder. Check the path.")
        return name
    return f"{Path(place).expanduser().resolve()}{suffix}"


def is_remote(name: str) -> bool:
    """Whether a resolved name means a data set of a stranger's on the hub: neither in a folder, nor a known one."""
    return name.startswith("hub:") and not name.startswith("hub:/")


def name_task(given: str) -> str:
    """:func:`resolve_task` of what the user of this very command names: if it is a Python file, it may be run.

    Files that only a run, a bundle or a configuration names are not.
    """
    name = resolve_task(given)
    _named.add(name)
    return name


def task_label(name: str) -> str:
    """What a bundle says it was made for: a task of edgekit's own by its name; else a file's name and hash, no path."""
    if name.startswith("hub:/"):  # a data set's folder here
        place, rule = _parts(name)
        folder, _, config = place.removeprefix("hub:").partition(":")
        return f"hub:{Path(folder).name}{f':{config}' if config else ''}{f'#{rule}' if rule else ''}"
    return name if name in TASKS or name.startswith("hub:") else task_content(name)


def get_task(name: str) -> Task:
    """The task called ``name``: a name from the tables, ``FILE.py``, ``FILE.jsonl`` or ``hub:DATASET``.

    Raises EdgekitError where :func:`resolve_task` does, for a file that holds no task, and for a Python file that
    nobody gave to :func:`name_task`.
    """
    name = resolve_task(name)
    if name in TASKS:
        module, _, attribute = TASKS[name].partition(".")
        task: Task = getattr(import_module(f"edgekit.tasks.{module}"), attribute)
        return task
    place, _ = _parts(DATA_SETS.get(name, name))
    if place.endswith(".py") and name not in _named:
        raise EdgekitError(
            f"task not named: {place}. It is a program, and no run, bundle or configuration may have one run. "
            f"If you trust it, name it yourself: --task {place} (train: --set task={place}; "
            f"experiment: --set overrides.task={place}, with --resume train.task)."
        )
    return _open(name, 0 if place.startswith("hub:") else Path(place).stat().st_mtime_ns)


def jsonl_file(name: str) -> Path | None:
    """The JSONL file that the task is, whether or not it is there; None for other tasks."""
    match = _SOURCE.fullmatch(name)
    return Path(match["place"]) if match and not match["hub"] and match["place"].endswith(".jsonl") else None


def from_copy(name: str, folder: Path) -> str:
    """``name``, or the same by ``folder``'s copy where the JSONL file that it names is gone."""
    file = jsonl_file(name)
    if file is None or file.is_file() or not (folder / file.name).is_file():
        return name
    return f"{(folder / file.name).resolve()}{name[len(str(file)) :]}"


def task_content(name: str) -> str:
    """What tells the task from one of the same name: a file's hash besides its name, else the name alone."""
    place, rule = _parts(name) if name not in {**TASKS, **DATA_SETS} else (name, "")
    if not Path(place).is_file():
        return name
    return f"{Path(place).name}#{rule}@{hashlib.sha256(Path(place).read_bytes()).hexdigest()}"


@functools.lru_cache(maxsize=32)
def _open(name: str, changed: int) -> Task:  # noqa: ARG001
    """The task of a resolved name; ``changed`` makes a file that was edited be read again."""
    place, rule = _parts(DATA_SETS.get(name, name))
    if place.endswith(".py"):
        from edgekit.tasks.own import python_task

        return python_task(Path(place))
    rule = rule or ("math" if place.startswith("hub:") else "exact")
    if rule == "math" or rule in CLOUD_RULES:
        require_math_verify()
    if place.startswith("hub:"):
        from edgekit.tasks.hub import hub_task

        return hub_task(place.removeprefix("hub:"), rule, name if name in DATA_SETS else None)
    from edgekit.tasks.jsonl import jsonl_task, read_jsonl

    if rule in CLOUD_RULES:
        return Answered(Path(place).stem, rule, functools.partial(read_jsonl, Path(place), None), name)
    return jsonl_task(Path(place), rule)


def _parts(name: str) -> tuple[str, str]:
    """The file or data set that ``name`` means, and the grading rule it asks for, if any."""
    match = _SOURCE.fullmatch(name)
    place, rule = (match["place"], match["rule"]) if match is not None else (name, None)
    is_file = not place.startswith("hub:")
    if place == "hub:" or (is_file and not place.endswith((".py", ".jsonl"))):
        known = ", ".join([*TASKS, *DATA_SETS])
        raise EdgekitError(f"unknown task: {name}. edgekit has {known}. {FORMS}.")
    rules = (*RULES, *CLOUD_RULES) if place.endswith(".jsonl") else tuple(RULES)
    if rule is not None and (rule not in rules or place.endswith(".py")):
        why = "A Python task grades itself" if place.endswith(".py") else f"The rules are {', '.join(rules)}"
        raise EdgekitError(f"unknown grading rule: {rule} in {name}. {why}. Change what follows the #.")
    if is_file and not Path(place).expanduser().is_file():
        raise EdgekitError(f"no task file: {place}. There is no such file. Check the path.")
    return place, rule or ""
