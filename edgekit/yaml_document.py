"""YAML that comes from outside: it can neither run anything, nor exhaust this process, nor mean two things.

Everything here raises OSError, or ValueError with the reason in a few words; whoever reads says which file it was.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from edgekit.plain_file import DOCUMENT_BYTES, read_text

DEPTH = 64
"""How far lists and mappings may lie inside each other."""
MOST_VALUES = 200_000
"""The largest document, counted with every alias written out."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, limit: int = DOCUMENT_BYTES) -> Any:
    """The YAML value in ``path``; see :func:`parse_yaml`."""
    return parse_yaml(read_text(path, limit))


def parse_yaml(text: str) -> Any:
    """The YAML value that ``text`` is: plain values only, not deeper than DEPTH, not larger than MOST_VALUES."""
    try:
        _check_events(text)
        return yaml.load(text, _OneMeaning)
    except yaml.YAMLError as error:
        raise ValueError("it is not YAML: " + " ".join(str(error).split())) from None
    except (ValueError, OverflowError) as error:
        raise ValueError(_reason(error)) from None


class _OneMeaning(_Loader):  # type: ignore[misc]
    """A SafeLoader that refuses a key given twice: YAML would keep the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen and key_node.value != "<<":
                    raise ValueError(f"it has {key_node.value!r} twice (line {key_node.start_mark.line + 1})")
                seen.add(key_node.value)
        made: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return made


def _reason(error: Exception) -> str:
    """The error's own words, but where they speak of this program."""
    if isinstance(error, UnicodeEncodeError):
        return "a text in it holds half a character (a lone surrogate)"
    return "a number in it has too many digits" if "int_max_str_digits" in str(error) else str(error)


def _check_events(text: str) -> None:
    """Read ``text`` without building anything: its depth, and its size were every alias written out."""
    sizes: dict[str, int] = {}  # of what an anchor names
    open_: list[tuple[str | None, int]] = []  # what is being read: its anchor, and the count when it began
    count = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"{event.anchor} in it stands for something that contains it")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        if len(open_) > DEPTH:
            raise ValueError(f"it is nested deeper than {DEPTH}")
        if count > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES:,} values")
