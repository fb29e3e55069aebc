"""Who stands behind a source when anyone may ask it anything: its task, if that is here, and its cloud."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.cloud.oracle import OracleCloud, TaskChat
from edgekit.errors import EdgekitError
from edgekit.tasks import get_task, is_remote
from edgekit.workflows.source import DEFAULT_TASK, AnyPath, open_cloud, task_for

if TYPE_CHECKING:
    from edgekit.bundle.load import Bundle
    from edgekit.cloud.client import Cloud
    from edgekit.cloud.request import ChatCloud
    from edgekit.policy.checkpoint import Policy
    from edgekit.tasks.base import Task

OWN, ORACLE = "own", "oracle"
SERVERS = ("openai:", "vllm:")


def known_task(source: AnyPath | Policy | Bundle, given: str | None) -> Task:
    """``given``, else the task that ``source`` was made for, else, where that is not here, the default one.

    Asking needs no task: it tells the oracle what it knows, and grades what it knows.
    """
    found = None
    with nullcontext() if given is not None else suppress(EdgekitError):
        found = task_for(source, given)
    return found or get_task(DEFAULT_TASK)


def cloud_behind(source: AnyPath | Policy | Bundle, cloud: str | Cloud | None, task: Task) -> Cloud | None:
    """The cloud that ``cloud`` names; :data:`OWN` is the one that the run was trained with, else the oracle.

    A server that only a run's file names is asked nothing: it may be a stranger's, and would be sent prompts and a key.
    Raises :class:`EdgekitError` unless this user's own commands have asked it before.
    """
    if cloud != OWN:
        return open_cloud(cloud, task)
    named = _named_by(source)
    found = open_cloud(named, task)
    if found is not None and not isinstance(found, OracleCloud) and not was_asked(found):
        raise EdgekitError(
            f"cloud not named: {named}, which {source} was trained with. Nothing here has asked it yet, and a run may "
            f"come from anywhere. If you trust it, name it: --cloud {named}."
        )
    return found


def check_named(
    work: Path, settings: Mapping[str, Any] | Sequence[str], places: Mapping[str, str], cloud: Cloud
) -> None:
    """Raise :class:`EdgekitError` unless this command's ``settings`` name each of ``places`` that lies on a network.

    ``places``, by setting, are what only the file of ``work`` names, a run or an experiment that goes on: it may be a
    stranger's, and they would be sent prompts, weights and keys. ``cloud`` is the one among them, opened; where this
    user's own commands have asked it before, it needs no naming.
    """
    given = {text.partition("=")[0].strip() for text in settings}  # a mapping's keys hold no =
    for setting, place in places.items():
        is_server = place.startswith(SERVERS) and not (setting == "cloud" and was_asked(cloud))
        if (is_server or is_remote(place)) and setting not in given:
            raise EdgekitError(
                f"{setting} not named: {place}. It lies on a network, and only {work} names it, which may come from "
                f"anywhere. If you trust it, name it: --set {setting}={place}."
            )


def was_asked(cloud: Cloud) -> bool:
    """Whether this user's answers hold one of that server's."""
    from edgekit.cloud.answers import AnswerStore, answers_file

    server = getattr(cloud, "server", None)
    return server is not None and answers_file().is_file() and AnswerStore(answers_file()).has_asked(server)


def chat_cloud(cloud: Cloud | None, task: Task) -> ChatCloud | None:
    """``cloud`` as one that takes conversations; a cloud that only knows problems answers those of ``task``."""
    return cloud if cloud is None or hasattr(cloud, "send") else TaskChat(task, cloud)  # type: ignore[return-value]


def _named_by(source: AnyPath | Policy | Bundle) -> str:
    """What the run around ``source`` says; the oracle for anything else."""
    from edgekit.train.config import read_mapping

    if not isinstance(source, str | os.PathLike):
        return ORACLE
    path = Path(source)
    files = [folder / "config.yaml" for folder in (path, path.parent) if (folder / "config.yaml").is_file()]
    if not files or (path / "manifest.json").is_file():
        return ORACLE
    return str(read_mapping(files[0], "training config").get("cloud", ORACLE))
