"""The errors a user can cause. Each is one line: what failed: value. why. what to do.

Only ``edgekit.cli`` turns them into an exit code; library code raises them.
"""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 20


def listed(faults: Sequence[str]) -> str:
    """The first :data:`SHOWN` of ``faults`` in one line, and how many more there are."""
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return "; ".join(faults[:SHOWN]) + more


def install_hint(extra: str) -> str:
    """How to get an optional part. Nothing is published: the name edgekit on the package index is another project's."""
    return f"In edgekit's clone, run pip install '.[{extra}]'"


class EdgekitError(Exception):
    """Bad usage, configuration or input (exit code 2)."""

    exit_code = 2


class CheckFailed(EdgekitError):
    """The work ran, and what it checked does not hold (exit code 1)."""

    exit_code = 1


class FailedElsewhere(EdgekitError):
    """The first process of a run of several failed, and says why: the others end without a word."""


class BackendMissing(EdgekitError):
    """A target's package is not installed on this host; the message says how to get it."""


class ConfigError(EdgekitError):
    """A configuration, recipe or preset is wrong. ``problems`` holds every fault found, not just the first."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(f"{source}: {listed(problems)}. Edit it and try again.")


class BundleError(EdgekitError):
    """A bundle or run cannot be read: missing file, changed byte, newer format."""
