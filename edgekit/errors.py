"""The errors a user can cause. Each is one line: what failed: value. why. what to do.

Only ``edgekit.cli`` turns them into an exit code; library code raises them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

SHOWN = 20
LONGEST, LONGEST_WORD = 2000, 300
"""Characters of a line, and of one word in it."""
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def listed(faults: Sequence[str]) -> str:
    """The first :data:`SHOWN` of ``faults`` in one line, and how many more there are."""
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return "; ".join(faults[:SHOWN]) + more


def one_line(message: str) -> str:
    """``message`` without line breaks, and without the middle of what is too long: both come with what it quotes.

    This is the one place that shortens the names, paths and texts from outside that errors repeat.
    """
    line = _LONG_WORD.sub(lambda found: _ends(found[0], LONGEST_WORD), " ".join(message.splitlines()))
    return _ends(line, LONGEST)


def _ends(text: str, most: int) -> str:
    """``text``, or its beginning and its end if it has more than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2]}[...]{text[-most // 2 :]}"


def install_hint(extra: str) -> str:
    """How to get an optional part. Nothing is published: the name edgekit on the package index is another project's."""
    return f"In edgekit's clone, run pip install '.[{extra}]'"


class ErrorKind(StrEnum):
    """What went wrong, in one word that Python, Kotlin and Swift share (tests/conformance/documents.json)."""

    BAD_INPUT = "bad_input"  # usage, a setting, an argument
    ABSENT = "absent"  # no such file or folder
    NOT_JSON = "not_json"
    WRONG_FORMAT = "wrong_format"  # JSON, but another kind of document
    NEWER = "newer"  # written by a newer version
    BAD_FIELD = "bad_field"  # a field is missing, unknown, of another type or out of range
    DAMAGED = "damaged"  # files are not those that the manifest names
    UNSUPPORTED = "unsupported"  # whole, but nothing here reads or runs it
    TOO_LONG = "too_long"  # the prompt leaves no room in the context
    BAD_LOGITS = "bad_logits"  # not one finite number for each token
    DEVICE_FAILED = "device_failed"  # the model's runtime, or the device's storage
    BUSY = "busy"
    STOPPED = "stopped"  # by the user
    OFFLINE = "offline"  # no network, or the server cannot be reached
    TIMED_OUT = "timed_out"
    UNAUTHORIZED = "unauthorized"  # the server refuses the key
    CLOUD_FAILED = "cloud_failed"  # any other reply that is no answer


class EdgekitError(Exception):
    """Bad usage, configuration or input (exit code 2)."""

    exit_code = 2
    kind = ErrorKind.BAD_INPUT

    def __init__(self, message: str, kind: ErrorKind | None = None) -> None:
        super().__init__(one_line(message))
        if kind is not None:
            self.kind = kind


class CheckFailed(EdgekitError):
    """The work ran, and what it checked does not hold (exit code 1)."""

    exit_code = 1


class FailedElsewhere(EdgekitError):
    """The first process of a run of several failed, and says why: the others end without a word."""


class NotFinite(EdgekitError):
    """A number of a training step is infinite or NaN: the step must not be taken."""


class BackendMissing(EdgekitError):
    """A target's package is not installed on this host; the message says how to get it."""

    kind = ErrorKind.UNSUPPORTED


class ConfigError(EdgekitError):
    """A configuration, recipe or preset is wrong. ``problems`` holds every fault found, not just the first."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.problems = problems
        told = listed(problems)
        super().__init__(f"{source}: {told}{'' if told.endswith('?') else '.'} Correct it and try again.")


class BundleError(EdgekitError):
    """A bundle or run cannot be read: missing file, changed byte, newer format."""

    kind = ErrorKind.DAMAGED


class BadLogits(EdgekitError):
    """A model, or its artifact, gave what no token can be chosen from."""

    kind = ErrorKind.BAD_LOGITS
