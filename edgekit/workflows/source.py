"""A SOURCE, run or bundle: which task it is for, its policy or artifact, and what decides prompts with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError
from edgekit.policy.folder import policy_folder
from edgekit.routing.turns import Turn

if TYPE_CHECKING:
    from edgekit.bundle.load import Bundle
    from edgekit.cloud.client import Cloud
    from edgekit.cloud.openai_client import CallLimits
    from edgekit.cloud.request import Message
    from edgekit.evaluate.answers import PolicyDecider, StepDecider
    from edgekit.hybrid.device import Device
    from edgekit.policy.checkpoint import Policy
    from edgekit.tasks.base import Task

AnyPath = str | os.PathLike[str]
DEFAULT_TASK = "countdown"


def is_bundle(source: Path) -> bool:
    """True for a bundle, False for a run or policy folder; :class:`BundleError` for anything else."""
    if (source / "manifest.json").is_file():
        return True
    policy_folder(source)
    return False


def routing_file(source: Path) -> Path:
    """Where a bundle, a run or a policy folder keeps its routing data."""
    return (source if is_bundle(source) else policy_folder(source)) / "routing.json"


def task_of(source: Path, given: str | None) -> str:
    """``given``, or the task that a bundle, a run, or the run around a policy folder names, or the default.

    A path in ``given`` is made absolute, so that what is written with it is understood from every directory. What a
    bundle names is a label: it means a task of edgekit's own, or nothing. Raises :class:`EdgekitError` for nothing,
    for a run whose task is a file with another content by now, and for one whose task lies on a network.
    """
    from edgekit.tasks import name_task

    if given is not None:
        return name_task(given)
    if (source / "manifest.json").is_file():
        from edgekit.bundle.manifest import read_manifest

        label = read_manifest(source).provenance.get("task") or DEFAULT_TASK
        if not is_known(label):
            raise EdgekitError(
                f"task not known: {label!r}, which {source} was made for. It is none of edgekit's own. Name it: --task."
            )
        return label
    configs = [folder / "config.yaml" for folder in (source, source.parent) if (folder / "config.yaml").is_file()]
    if not configs:
        return DEFAULT_TASK
    from edgekit.tasks import is_remote
    from edgekit.train.config import load_run_config
    from edgekit.train.task_file import check_task

    task = load_run_config(configs[0]).task
    check_task(configs[0].parent, task)
    if is_remote(task):
        raise EdgekitError(
            f"task not named: {task}. It lies on a network, and only the run {source} names it. Name it: --task {task}."
        )
    return task


def task_for(source: AnyPath | Policy | Bundle, given: str | None) -> Task | None:
    """What grades the prompts of ``source``: the task ``given``, or else the one that it was made for.

    Of a bundle whose task is not here that is what its recorded cases make with their answers, which knows no other
    prompts. None for an opened policy, and where nothing recorded can be graded.
    """
    from edgekit.bundle.conformance import CONFORMANCE, ConformanceCase, read_conformance
    from edgekit.bundle.load import Bundle
    from edgekit.bundle.manifest import read_manifest
    from edgekit.tasks import get_task, name_task
    from edgekit.tasks.recorded import Grading, recorded_task

    name = name_task(given) if given else source_task(source)
    if name is not None:
        return get_task(name)
    folder = source.path if isinstance(source, Bundle) else source
    if not isinstance(folder, str | os.PathLike):
        return None
    graded = [
        (case.prompt, Grading(case.grading_rule, case.reference_answer))
        for case in read_conformance(Path(folder) / CONFORMANCE)
        if isinstance(case, ConformanceCase) and case.grading_rule and case.reference_answer
    ]
    label = read_manifest(Path(folder)).provenance.get("task", "")
    possible = [(prompt, grading) for prompt, grading in graded if grading.is_possible]
    return recorded_task(label.partition("@")[0] or "recorded cases", possible) if possible else None


def has_foreign_task(source: Path) -> bool:
    """Whether ``source`` is a bundle made for a task that is not here."""
    return (source / "manifest.json").is_file() and source_task(source) is None


def is_known(label: str) -> bool:
    """Whether a bundle's label means a task of edgekit's own: no file, and nothing from a network."""
    from edgekit.tasks import TASKS

    return label in TASKS


def name_task_in(settings: Mapping[str, Any] | Sequence[str]) -> None:
    """Let the task that a command's own ``settings`` name be run, if it is a Python file."""
    from edgekit.tasks import name_task

    pairs = settings.items() if isinstance(settings, Mapping) else (text.partition("=")[::2] for text in settings)
    for key, value in pairs:
        if key.strip().rpartition(".")[2] == "task":
            with suppress(EdgekitError):  # told of with whatever else is wrong
                name_task(str(value).strip())


def open_cloud(cloud: str | Cloud | None, task: Task, limits: CallLimits | None = None) -> Cloud | None:
    """The cloud that a text such as "oracle:0.9" names (None and "none": none); a :class:`Cloud` is taken as it is.

    The key of a server is read from the environment variable EDGEKIT_CLOUD_API_KEY. What it answers to problems is kept
    for this user, so that each is paid for once. ``limits``: what one call of it may take, None: the usual.
    """
    from edgekit.cloud.answers import AnswerStore, KeptCloud, answers_file
    from edgekit.cloud.choose import parse_cloud
    from edgekit.cloud.openai_client import OpenAICloud

    found = parse_cloud(cloud, task, os.environ, limits) if isinstance(cloud, str) else cloud
    return KeptCloud(found, AnswerStore(answers_file())) if isinstance(found, OpenAICloud) else found


def load_policy(run: AnyPath) -> Policy:
    """The policy of a run, or of a policy folder. Raises :class:`BundleError` naming the file at fault."""
    from edgekit.policy.checkpoint import load_policy as load

    return load(policy_folder(Path(run)))


def open_bundle(bundle: AnyPath) -> Bundle:
    """The bundle in the folder ``bundle``, every file's size and hash checked.

    Raises :class:`BundleError` for anything that is not a whole, unchanged bundle this version can read.
    """
    from edgekit.bundle.load import open_bundle as load

    return load(Path(bundle))


def open_source(source: AnyPath | Policy | Bundle) -> PolicyDecider | StepDecider:
    """The run's torch policy, or the bundle's artifact in its simulator."""
    from edgekit.bundle.load import Bundle
    from edgekit.evaluate.answers import PolicyDecider

    made = _opened(source)
    return bundle_decider(made) if isinstance(made, Bundle) else PolicyDecider(made)


def _opened(source: AnyPath | Policy | Bundle) -> Policy | Bundle:
    if isinstance(source, str | os.PathLike):
        return open_bundle(source) if is_bundle(Path(source)) else load_policy(source)
    return source


def bundle_decider(bundle: Bundle) -> StepDecider:
    """The bundle's artifact in its simulator. Raises :class:`BackendMissing` if this host lacks its runtime."""
    from edgekit.evaluate.answers import StepDecider
    from edgekit.simulate import open_bundled

    return StepDecider(open_bundled(bundle), bundle.routing, bundle.vocabulary, bundle.encode)


def source_task(source: AnyPath | Policy | Bundle) -> str | None:
    """The task that a source was made for; None for an opened policy, and for a bundle of a task that is not here."""
    from edgekit.bundle.load import Bundle
    from edgekit.bundle.manifest import read_manifest

    if isinstance(source, str | os.PathLike) and (Path(source) / "manifest.json").is_file():
        label = read_manifest(Path(source)).provenance.get("task")
    elif isinstance(source, Bundle):
        label = source.manifest.provenance.get("task")
    else:
        return task_of(Path(source), None) if isinstance(source, str | os.PathLike) else None
    return label if label and is_known(label) else None


def open_device(source: AnyPath | Policy | Bundle) -> Device:
    """The run's torch policy, or the bundle's artifact in its simulator, as a device model that streams."""
    from edgekit.bundle.load import Bundle
    from edgekit.hybrid.device import Device
    from edgekit.policy.reference import ReferenceModel
    from edgekit.simulate import open_bundled

    made = _opened(source)
    model = open_bundled(made) if isinstance(made, Bundle) else ReferenceModel(made.model)
    return Device(model, made.routing, made.vocabulary, made.encode, _turns_encoder(made))


def _turns_encoder(made: Policy | Bundle) -> Callable[[Sequence[Message]], list[int]] | None:
    """What writes a conversation as the policy's chat template does; None where it has none."""
    turns = made.turns
    if turns is None:
        return None

    def encode(messages: Sequence[Message]) -> list[int]:
        parts = turns.parts([Turn(message.role, message.content) for message in messages])
        return made.prompt_tokenizer.encode(parts, made.routing.delimiters)

    return encode
