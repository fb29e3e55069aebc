"""Finding added tokens in a text as Hugging Face's tokenizers does: leftmost first, then the longest."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from tokenizers import AddedToken

WHITE_SPACE = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
)
"""Unicode's White_Space; str.isspace holds four separators more."""
_WORD = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc"}
_WORD_BESIDES = (
    range(0x200C, 0x200E),
    range(0x24B6, 0x24EA),
    range(0x1F130, 0x1F14A),
    range(0x1F150, 0x1F16A),
    range(0x1F170, 0x1F18A),
)
"""Joiners and enclosed letters: what \\w holds besides those categories."""


class AddedTokens:
    """Added tokens by their text: ``tokens`` maps it to the id and the flags."""

    def __init__(self, tokens: Mapping[str, tuple[int, AddedToken]]) -> None:
        self._tokens = {text: token for text, token in tokens.items() if text}
        lengths: dict[str, set[int]] = {}
        for text in self._tokens:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        """By a token's first character, how long those that begin with it are: few, where tokens are thousands."""
        self._first = re.compile(f"[{''.join(map(re.escape, lengths))}]") if lengths else None

    def __len__(self) -> int:
        return len(self._tokens)

    def split(self, text: str, within: Sequence[range]) -> Iterator[int | range]:
        """In order, the ids of the tokens in ``text`` that lie inside one of ``within``, and what is between them."""
        begin = at = 0
        while (found := self._next(text, at, within)) is not None:
            start, end, token_id, token = found
            at = end
            if token.single_word and not _stands_alone(text, start, end):
                continue
            while token.lstrip and start > begin and text[start - 1] in WHITE_SPACE:
                start -= 1
            if start > begin:
                yield range(begin, start)
            yield token_id
            begin = end
            while token.rstrip and begin < len(text) and text[begin] in WHITE_SPACE:
                begin += 1
            at = max(end, begin)
        if begin < len(text):
            yield range(begin, len(text))

    def _next(self, text: str, at: int, within: Sequence[range]) -> tuple[int, int, int, AddedToken] | None:
        """Where the next token begins and ends, its id, and itself."""
        while self._first is not None and (match := self._first.search(text, at)):
            at = match.start()
            for length in self._lengths[text[at]]:
                end = at + length
                found = self._tokens.get(text[at:end])
                if found is not None and any(each.start <= at and end <= each.stop for each in within):
                    return at, end, *found
            at += 1
        return None


def _stands_alone(text: str, begin: int, end: int) -> bool:
    return not _is_word(text[begin - 1 : begin]) and not _is_word(text[end : end + 1])


def _is_word(character: str) -> bool:
    if not character:
        return False
    return unicodedata.category(character) in _WORD or any(ord(character) in each for each in _WORD_BESIDES)
