r"""What a foreign tokenizer may cost: how much longer it can make a text, and whether its time is known to be bounded.

A regular expression may take time that doubles with every character, and a library that gives up on one ends the
thread with a backtrace. Those of the families that edgekit knows are linear; any other runs in a process of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

MOST_STEPS = 32
MOST_GROWTH = 64
"""How many times longer all steps together may make a text."""
LONGEST_ADDED = 256
"""Characters of an added token; each place of a text may be looked up in as many lengths as there are."""
LINEAR = {
    "BertPreTokenizer", "ByteLevel", "Digits", "Lowercase", "Metaspace", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Prepend",
    "Punctuation", "Replace", "Split", "Strip", "StripAccents", "UnicodeScripts", "Whitespace", "WhitespaceSplit",
}  # fmt: skip
"""Steps whose time is in proportion to the text, where they look for a plain text or a known expression."""
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ENDINGS = r"'s|'t|'re|'ve|'m|'ll|'d"
KNOWN = {
    _ENDINGS + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2
    f"(?i:{_ENDINGS})" + _WORDS + r"\p{N}{1,3}" + _REST,  # Llama 3
    f"(?i:{_ENDINGS})" + _WORDS + r"\p{N}" + _REST,  # Qwen 2 and 3
    r"\p{N}{1,3}",
    r"\d{1,3}",
}
_GROWS = {"NFD": 4.0, "NFKC": 18.0, "NFKD": 18.0, "Lowercase": 3.0}
"""Unicode's own largest expansions, in characters."""
_INSIDE = ("normalizers", "pretokenizers")


def steps(tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """What ``tokenizer`` does to a text before its model, one step after another."""
    parts = [part for part in (tokenizer.normalizer, tokenizer.pre_tokenizer) if part is not None]
    pending = [json.loads(part.__getstate__()) for part in parts]
    while pending:
        step = pending.pop(0)
        inside = next((step[name] for name in _INSIDE if name in step), None)
        if inside is None:
            yield step
        else:
            pending[:0] = inside


def growth_fault(tokenizer: Tokenizer) -> str | None:
    """Why ``tokenizer`` may make too much of a text, or None."""
    growth = 1.0
    for before, step in enumerate(steps(tokenizer)):
        growth *= _growth(step)
        if before == MOST_STEPS or growth > MOST_GROWTH:
            return f"its steps make a text more than {MOST_GROWTH} times as long, or are more than {MOST_STEPS}"
    return None


def added_fault(tokenizer: Tokenizer) -> str | None:
    """Why looking for ``tokenizer``'s added tokens may take too long, or None."""
    longest = max((len(token.content) for token in tokenizer.get_added_tokens_decoder().values()), default=0)
    return f"an added token has {longest:,} characters, more than {LONGEST_ADDED}" if longest > LONGEST_ADDED else None


def is_linear(tokenizer: Tokenizer) -> bool:
    """Whether its time is known to be in proportion to the text."""
    return all(step.get("type") in LINEAR and _expression(step) in {None, *KNOWN} for step in steps(tokenizer))


def _expression(step: dict[str, Any]) -> str | None:
    pattern = step.get("pattern")
    found = pattern.get("Regex") if isinstance(pattern, dict) else None
    return found if isinstance(found, str) else None


def _growth(step: dict[str, Any]) -> float:
    kind = step.get("type")
    if kind == "Prepend":
        return 1.0 + len(step.get("prepend", "")) / 16
    if kind != "Replace":
        return _GROWS.get(str(kind), 1.0)
    looked_for = step.get("pattern", {}).get("String", "")
    return max(1.0, len(step.get("content", "")) / len(looked_for)) if looked_for else 1.0 + len(step["content"])
