"""Many prompts from a file or a pipe: one a line, as text or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from edgekit.errors import EdgekitError
from edgekit.plain_file import read_bytes
from edgekit.tasks.collection import PROMPT_COLUMNS

STDIN = "-"
SUFFIXES = (".jsonl", ".txt")
MOST_BYTES = 64_000_000


def prompts_in(argument: str, stdin: Callable[[], IO[bytes]]) -> list[str] | None:
    """The prompts that ``argument`` stands for: "-" those of ``stdin()``, a .jsonl or .txt file those in it.

    None if it is a prompt itself. Raises :class:`EdgekitError` for what cannot be read, naming the line, and for
    one word that ends like a file's name where there is none: a slip of the keyboard is not sent to a cloud.
    """
    path = Path(argument)
    is_name = argument.endswith(SUFFIXES) and (path.is_file() or len(argument.split()) == 1)
    if argument != STDIN and not is_name:
        return None
    if argument != STDIN and not path.exists():
        raise EdgekitError(f"cannot read prompts: {argument}. There is no such file. Check the path.")
    try:
        data = read_bytes(path, MOST_BYTES) if argument != STDIN else stdin().read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise EdgekitError(f"cannot read prompts: {argument}. {why}. Give text, one prompt a line.") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise EdgekitError(f"no prompts: {argument}. It is empty. Give one a line.")
    is_json = argument.endswith(".jsonl") or (argument == STDIN and lines[0][1].lstrip().startswith("{"))
    return [_prompt_of(line, number, argument) if is_json else line.strip() for number, line in lines]


def piped_prompts(stdin: IO[bytes]) -> Iterator[str]:
    """The lines of ``stdin`` as they come. Raises :class:`EdgekitError` naming the one that is no text."""
    for number, line in enumerate(iter(lambda: stdin.readline(MOST_BYTES + 1), b""), 1):
        try:
            if len(line) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
            text = line.decode("utf-8-sig")
        except ValueError as error:
            why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise EdgekitError(f"cannot read prompts: stdin, line {number}. {why}. Give text, one a line.") from None
        yield text.strip()


def _prompt_of(line: str, number: int, source: str) -> str:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        found = next((found[column] for column in PROMPT_COLUMNS if found.get(column) is not None), None)
    if not isinstance(found, str) or not found.strip():
        wanted = f"It is no JSON object with a text {', '.join(PROMPT_COLUMNS)}"
        raise EdgekitError(f"bad prompt: {source}, line {number}. {wanted}. Correct it.")
    return found
