"""A SOURCE, run or bundle: which task it is for, its policy or artifact, and what decides prompts with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.policy.folder import policy_folder

if TYPE_CHECKING:
    from edgekit.bundle.load import Bundle
    from edgekit.cloud.client import Cloud
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

    A path in ``given`` is made absolute, so that what is written with it is understood from every directory.
    """
    if given is not None:
        from edgekit.tasks import resolve_task

        return resolve_task(given)
    if (source / "manifest.json").is_file():
        from edgekit.bundle.manifest import read_manifest

        return read_manifest(source).provenance.get("task") or DEFAULT_TASK
    configs = [folder / "config.yaml" for folder in (source, source.parent) if (folder / "config.yaml").is_file()]
    if not configs:
        return DEFAULT_TASK
    from edgekit.train.config import load_run_config

    return load_run_config(configs[0]).task


def task_label(task: str) -> str:
    """The task's name as it may be shipped: of a file, its name without the folders of this machine."""
    return task.rpartition("/")[2] if task.startswith("/") else task


def open_cloud(cloud: str | Cloud | None, task: Task) -> Cloud | None:
    """The cloud that a text such as "oracle:0.9" names (None and "none": none); a :class:`Cloud` is taken as it is.

    The key of a server is read from the environment variable EDGEKIT_CLOUD_API_KEY.
    """
    from edgekit.cloud.choose import parse_cloud

    return parse_cloud(cloud, task, os.environ) if isinstance(cloud, str) else cloud


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

    if isinstance(source, Bundle):
        return bundle_decider(source)
    if isinstance(source, str | os.PathLike):
        if is_bundle(Path(source)):
            return bundle_decider(open_bundle(source))
        source = load_policy(source)
    return PolicyDecider(source)


def bundle_decider(bundle: Bundle) -> StepDecider:
    """The bundle's artifact in its simulator. Raises :class:`BackendMissing` if this host lacks its runtime."""
    from edgekit.evaluate.answers import StepDecider
    from edgekit.simulate import open_bundled

    return StepDecider(open_bundled(bundle), bundle.routing, bundle.vocabulary, bundle.encode)


def source_task(source: AnyPath | Policy | Bundle) -> str | None:
    """The task that a source on disk, or an opened bundle, was made for; None for an opened policy."""
    from edgekit.bundle.load import Bundle

    if isinstance(source, Bundle):
        return task_of(source.path, None)
    return task_of(Path(source), None) if isinstance(source, str | os.PathLike) else None


def open_device(source: AnyPath | Policy | Bundle) -> Device:
    """The run's torch policy, or the bundle's artifact in its simulator, as a device model that streams."""
    from edgekit.evaluate.answers import StepDecider
    from edgekit.hybrid.device import Device
    from edgekit.policy.reference import ReferenceModel

    opened = open_source(source)
    if isinstance(opened, StepDecider):
        return Device(opened.model, opened.spec, opened.vocabulary, opened.encode)
    policy = opened.policy
    return Device(ReferenceModel(policy.model), policy.routing, policy.vocabulary, policy.encode)
