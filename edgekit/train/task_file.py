"""Which file a run's task was: a run whose task is a file keeps its hash, and goes on with no other of that name."""

from __future__ import annotations

from pathlib import Path

from edgekit.atomic_write import write_file
from edgekit.errors import EdgekitError
from edgekit.plain_file import read_text
from edgekit.tasks import task_content

FILE = "task.txt"


def keep_task(folder: Path, task: str) -> None:
    """Write down in the run's ``folder`` which file ``task`` is; nothing for a task that is none."""
    content = task_content(task)
    if content != task:
        write_file(folder / FILE, f"{content}\n")


def check_task(folder: Path, task: str) -> None:
    """Raise :class:`EdgekitError` if ``task``, which the run in ``folder`` names, is another file than it was."""
    try:
        kept = read_text(folder / FILE).strip()
    except FileNotFoundError:
        return  # no file, or a run of a version that did not keep this
    except (OSError, ValueError) as error:
        raise EdgekitError(f"cannot read: {folder / FILE}. {error}. Restore it.") from None
    if task_content(task) != kept:
        why = f"Its content is not what the run {folder} was trained on"
        raise EdgekitError(f"another task: {task}. {why}. Restore it; to judge by another file, name that: --task.")
