"""Which split a problem belongs to: decided by a stable hash of the problem itself, so no seed can mix them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from edgekit.errors import EdgekitError
from edgekit.tasks.base import Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_PERCENT: dict[Split, range] = {"train": range(70), "validation": range(70, 80), "test": range(80, 100)}


def percent_of(text: str) -> int:
    """A number from 0 to 99 that depends on ``text`` alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100


def split_of(canonical: str) -> Split:
    """The split of the problem written as ``canonical``: 70 % train, 10 % validation, 20 % test."""
    percent = percent_of(canonical)
    return next(split for split, percents in _PERCENT.items() if percent in percents)


def check_split(task: str, split: Split) -> None:
    """Raises :class:`EdgekitError` if there is no such split."""
    if split not in SPLITS:
        raise EdgekitError(f"unknown split: {split}. {task.capitalize()} has {', '.join(SPLITS)}. Choose one.")


def check_request(task: str, split: Split, n: int, most: Mapping[Split, int]) -> None:
    """Raises :class:`EdgekitError` for an unknown split, or a count that the split does not give."""
    check_split(task, split)
    if not 0 <= n <= most[split]:
        raise EdgekitError(f"bad problem count: {n}. The {split} split gives 0 to {most[split]}. Change it.")
