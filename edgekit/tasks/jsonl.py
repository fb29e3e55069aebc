"""A task from a JSONL file: one problem a line, with its reference answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.plain_file import RECORD_BYTES, read_bytes
from edgekit.tasks.base import Problem, Split
from edgekit.tasks.collection import Collection, Row, prompt_id, read_row
from edgekit.tasks.splits import SPLITS, split_of


def jsonl_task(path: Path, rule: str) -> Collection:
    """The task whose problems are the lines of ``path``. Raises EdgekitError naming the first bad line."""
    splits = read_jsonl(path, rule)
    return Collection(path.stem, rule, lambda: splits)


def read_jsonl(path: Path, rule: str | None) -> dict[Split, list[Problem]]:
    """The problems by split: the line's own ``split``, else by a hash of the prompt (70, 10 and 20 %).

    ``rule`` None: prompts alone, without answers.
    """
    try:
        lines = read_bytes(path, RECORD_BYTES).decode("utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        is_text = isinstance(error, UnicodeDecodeError)
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8" if is_text else error
        raise EdgekitError(f"task file cannot be read: {path}. {why}. Check the path.") from None
    splits: dict[Split, list[Problem]] = {split: [] for split in SPLITS}
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _read_line(line, rule)
        if isinstance(row, str):
            raise EdgekitError(f"task file {path}, line {number}: {row}. Every line is a problem. Correct it.")
        for key in (f"prompt {prompt_id(row.problem.prompt)}", f"id {row.problem.id}"):
            if key in seen:
                what = f"its {key.partition(' ')[0]} is line {seen[key]}'s"
                raise EdgekitError(f"task file {path}, line {number}: {what}. Problems must differ. Remove one.")
            seen[key] = number
        split = next((s for s in SPLITS if s == row.split), split_of(prompt_id(row.problem.prompt)))
        splits[split].append(row.problem)
    if not seen:
        raise EdgekitError(f"task file has no problems: {path}. It is empty. Give one JSON object a line.")
    return splits


def _read_line(line: str, rule: str | None) -> Row | str:
    try:
        data: Any = json.loads(line)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if not isinstance(data, dict):
        return "it is not a JSON object"
    if not _is_text(data):
        return "a text in it holds half of a character"
    if data.get("split") is not None and data["split"] not in SPLITS:
        return f"unknown split {data['split']!r}, one of {', '.join(SPLITS)} is meant"
    if data.get("id") is not None and not isinstance(data["id"], (str, int)):
        return "id is neither a text nor a number"
    return read_row(data, rule)


def _is_text(data: dict[str, Any]) -> bool:
    """Whether all texts of ``data`` can be written: JSON can spell half of a surrogate pair."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
