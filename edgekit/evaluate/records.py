"""What became of each problem, a line of JSON each: to look at those that changed, and to count again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgekit.atomic_write import write_file
from edgekit.routing.decoder import Decision


def record(decision: Decision, right: bool | None) -> dict[str, Any]:
    """``decision`` as JSON data; ``right``: whether the side that answered did so rightly, None if nobody knows."""
    return {
        "called": decision.called, "reason": decision.reason, "right": right, "answer": decision.answer,
        "text": decision.text, "tokens": len(decision.token_ids),
    }  # fmt: skip


def write_records(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` to ``path``, a line each, in ASCII: some programs take other characters for a line's end."""
    write_file(path, "".join(json.dumps(row) + "\n" for row in rows))
