"""Documents that differ from a good one in one place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

TAKEN = "taken"
NOT_JSON, BAD_FIELD, UNSUPPORTED = "not_json", "bad_field", "unsupported"
ABSENT = object()
"""Stands for a field that is left out."""


def changed(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """``base`` with the field at ``path`` (names joined by dots) set to ``value``, or left out."""
    head, _, rest = path.partition(".")
    if rest:
        return {**base, head: changed(base[head], rest, value)}
    others = {name: each for name, each in base.items() if name != head}
    return others if value is ABSENT else {**base, head: value}


def fields(
    base: dict[str, Any], verdicts: dict[str, list[tuple[str, Any]]], title: str = ""
) -> Iterator[tuple[str, str, str]]:
    """(name, text, verdict) for ``base`` with one field changed at a time; names begin with ``title``."""
    for verdict, changes in verdicts.items():
        for path, value in changes:
            said = "absent" if value is ABSENT else json.dumps(value)
            if len(said) > 50:
                said = f"{said[:24]}...{said[-24:]} of {len(said)} characters"
            yield f"{title}{path} {said}", json.dumps(changed(base, path, value), ensure_ascii=False), verdict


def number(base: dict[str, Any], path: str, written: str, verdict: str) -> tuple[str, str, str]:
    """``base`` with a number spelled as ``written``."""
    text = json.dumps(changed(base, path, "@@"), ensure_ascii=False).replace('"@@"', written)
    return f"{path} spelled {written[:40]}", text, verdict
