"""Files that a run appends to, a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit.errors import BundleError
from edgekit.plain_file import RECORD_BYTES, read_bytes


def read_records(path: Path, *needed: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line of ``path`` and the object in it; a last line without an end, torn by a kill, is left out.

    Raises :class:`BundleError` naming the first line that is no object with the keys ``needed``.
    """
    try:
        whole, _, _ = read_bytes(path, RECORD_BYTES).rpartition(b"\n")
    except OSError as error:
        raise BundleError(f"cannot read: {path}. {error.strerror}. Check the path.") from None
    except ValueError as error:
        raise BundleError(f"cannot read: {path}. {error}. Restore it, or train again.") from None
    for number, data in enumerate(whole.split(b"\n") if whole else [], start=1):
        try:
            line = data.decode()
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise _damaged(path, number, "It is not JSON") from None
        if not isinstance(record, dict):
            raise _damaged(path, number, "It is no object")
        if missing := [key for key in needed if not is_number(record.get(key))]:
            raise _damaged(path, number, f"It has no number {missing[0]}")
        yield line + "\n", record


def is_number(value: Any) -> bool:
    """Whether a line's ``value`` is a number that can be computed with."""
    return isinstance(value, int | float) and -1e300 < value < 1e300


def _damaged(path: Path, number: int, why: str) -> BundleError:
    return BundleError(f"damaged line: {path}:{number}. {why}. Remove it and the lines after it.")
