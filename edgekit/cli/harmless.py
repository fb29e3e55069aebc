"""Text from outside made harmless for a terminal."""

from __future__ import annotations

import re

_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1: escapes, cursor moves, bells
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of writing
    "\u2028\u2029"  # separators of lines
    "\ud800-\udfff]"  # halves of characters, which no encoding has
)


def harmless(text: str) -> str:
    """``text`` with every character that commands a terminal written as its escape; tabs and ends of lines stay."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)
