"""What can run on this host."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch

from edgekit.recipes.targets import TARGETS
from edgekit.recipes.targets.base import Target
from edgekit.version import __version__


@dataclass(frozen=True)
class TargetStatus:
    """Whether this host can export to a target and run its artifacts, by which runtime, and what is ``missing``."""

    target: str
    export: bool
    run: bool
    runtime: dict[str, str] | None
    missing: str | None


@dataclass(frozen=True)
class HostStatus:
    """The versions at work, and each target's status."""

    edgekit: str
    python: str
    torch: str
    targets: list[TargetStatus]


def host_status() -> HostStatus:
    """What can run here, and what is missing for the rest."""
    targets = [_status(target) for target in TARGETS.values()]
    return HostStatus(__version__, platform.python_version(), torch.__version__, targets)


def _status(target: Target) -> TargetStatus:
    lacks_export, lacks_run = target.missing_to_lower(), target.missing_to_run()
    return TargetStatus(
        target=target.name,
        export=lacks_export is None,
        run=lacks_run is None,
        runtime=None if lacks_export else target.runtime.facts(),
        missing=lacks_export or lacks_run,
    )
