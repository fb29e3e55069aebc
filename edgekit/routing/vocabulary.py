"""Token ids to bytes, read straight from a tokenizer.json (no tokenizer library needed)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import BundleError
from edgekit.plain_file import TOKENIZER_BYTES, read_text
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.tokenizer_kinds import require_kind


def byte_alphabet() -> dict[str, int]:
    """The printable stand-in of every byte in byte-level BPE vocabularies (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}


_ALPHABET = byte_alphabet()
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def _byte_level(piece: str) -> bytes:
    known = all(character in _ALPHABET for character in piece)
    return bytes(_ALPHABET[character] for character in piece) if known else b""


def _sentencepiece(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("\u2581", " ").encode()


class Vocabulary:
    """What each token id spells, as bytes; a token may hold part of a UTF-8 character.

    Special tokens (end of text and the like) spell nothing in the visible text, except those
    listed in ``visible``: delimiters and the marker, whose text the routing decoder must see.
    """

    def __init__(self, pieces: dict[int, bytes]) -> None:
        self._pieces = pieces
        self._without_token: dict[int, NDArray[np.int64]] = {}

    def __getitem__(self, token_id: int) -> bytes:
        return self._pieces.get(token_id, b"")

    @property
    def largest_id(self) -> int:
        """The largest token id; -1 if there is none."""
        return max(self._pieces, default=-1)

    def without_token(self, size: int) -> NDArray[np.int64]:
        """The ids below ``size`` that are no token's, ascending. A model may have rows for them; none is chosen."""
        if size not in self._without_token:
            known = [token_id for token_id in self._pieces if 0 <= token_id < size]
            self._without_token[size] = np.setdiff1d(np.arange(size), known)
        return self._without_token[size]

    @classmethod
    def from_tokenizer_json(cls, path: Path, *, visible: tuple[str, ...] = ()) -> Vocabulary:
        """Read ``path``. Raises :class:`BundleError` if its tokens are of no kind whose bytes are known."""
        try:
            data = json.loads(read_text(path, TOKENIZER_BYTES))
            require_kind(data, path)
            return cls.from_tokenizer_data(data, visible=visible)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BundleError(f"unreadable tokenizer: {path}. {error}. Export the bundle again.") from None

    @classmethod
    def from_tokenizer_data(cls, data: dict[str, Any], *, visible: tuple[str, ...] = ()) -> Vocabulary:
        """The same from a parsed tokenizer.json."""
        vocabulary: dict[str, int] = data["model"]["vocab"]
        added = data.get("added_tokens", [])
        byte_level = "ByteLevel" in json.dumps([data.get("pre_tokenizer"), data.get("decoder")])
        spell = _byte_level if byte_level else _sentencepiece
        pieces = {token_id: spell(text) for text, token_id in vocabulary.items()}
        for token in added:
            hidden = token["special"] and token["content"] not in visible
            text = token["content"]
            pieces[token["id"]] = b"" if hidden else text.encode() if byte_level else _sentencepiece(text)
        return cls(pieces)


def load_vocabulary(tokenizer_json: Path, routing: RoutingSpec) -> Vocabulary:
    """The id-to-bytes table the routing decoder needs for ``routing``."""
    return Vocabulary.from_tokenizer_json(tokenizer_json, visible=routing.delimiters)
