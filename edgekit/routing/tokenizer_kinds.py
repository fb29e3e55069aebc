"""Which tokenizers edgekit can use, and which of those the phone cores read.

edgekit must know the bytes that each token spells, so that text streams and the marker is seen whole: byte-level BPE
and SentencePiece BPE with byte fallback have them. The phone cores read those two with the steps listed here; Kotlin
and Swift give the same verdicts (documents.json).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from edgekit.errors import BundleError, ErrorKind
from edgekit.json_document import DocumentFault
from edgekit.plain_file import TOKENIZER_BYTES, read_text

Kind = Literal["byte-level BPE", "SentencePiece BPE"]
READS = "edgekit reads byte-level BPE and SentencePiece BPE with byte fallback"
IDS = 2**24
BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace", "Strip"}
PRE_TOKENIZERS = {"ByteLevel", "Digits", "Metaspace", "Split"}
SPLIT_BEHAVIORS = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"}
DECODERS: dict[Kind, set[str]] = {
    "byte-level BPE": {"ByteLevel"},
    "SentencePiece BPE": {"ByteFallback", "Fuse", "Metaspace", "Replace", "Strip"},
}
_INSIDE = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}


def tokenizer_kind(data: Any) -> Kind:
    """The kind of a parsed tokenizer.json. Raises :class:`DocumentFault` (unsupported, bad_field) for any other."""
    model = _object(_object(data, "file").get("model"), "model")
    kind = model.get("type") or "BPE"
    if kind != "BPE":
        raise _unsupported(f"model.type: {kind}")
    if model.get("dropout"):
        raise _unsupported("model.dropout: merges left out at random")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise _unsupported(f"model.{name}: {model[name]!r}")
    vocabulary = _object(model.get("vocab"), "model.vocab")
    ids = set(vocabulary.values()) if all(type(each) is int for each in vocabulary.values()) else {-1}
    if len(ids) < len(vocabulary) or not all(0 <= each < IDS for each in ids):
        raise DocumentFault(ErrorKind.BAD_FIELD, "model.vocab: an id twice, or one that is none")
    if not isinstance(model.get("merges"), list):
        raise DocumentFault(ErrorKind.BAD_FIELD, "model.merges: not a list")
    if any(step.get("type") == "ByteLevel" for step in _steps(data, "pre_tokenizer")):
        return "byte-level BPE"
    if model.get("byte_fallback") is True and vocabulary.keys() >= BYTES:
        return "SentencePiece BPE"
    raise _unsupported("BPE that has no bytes for what is not in its vocabulary")


def require_kind(data: Any, path: Path) -> Kind:
    """The same, of the file ``path``. Raises :class:`BundleError`."""
    try:
        return tokenizer_kind(data)
    except DocumentFault as fault:
        raise BundleError(
            f"unusable tokenizer: {path}. {fault}. Take a model that has such a one.", fault.kind
        ) from None


def check_phones_read(data: Any) -> None:
    """Raise :class:`DocumentFault` (unsupported, bad_field) for a tokenizer.json that the phone cores do not read."""
    kind = tokenizer_kind(data)
    for name, known in (
        ("normalizer", NORMALIZERS),
        ("pre_tokenizer", PRE_TOKENIZERS),
        ("decoder", DECODERS[kind]),
    ):
        for step in _steps(data, name):
            if step["type"] not in known:
                raise DocumentFault(ErrorKind.UNSUPPORTED, f"{name}.type: {step['type']}")
            if step["type"] == "Replace" and "String" not in step.get("pattern", {}):
                raise DocumentFault(ErrorKind.UNSUPPORTED, f"{name}.pattern: not a plain text")
            if step["type"] == "Split" and step.get("behavior") not in SPLIT_BEHAVIORS:
                raise DocumentFault(ErrorKind.UNSUPPORTED, f"{name}.behavior: {step.get('behavior')}")


def phones_lack(path: Path) -> str | None:
    """What in the tokenizer.json ``path`` the phone cores do not read; None if they read it. Raises BundleError."""
    try:
        check_phones_read(json.loads(read_text(path, TOKENIZER_BYTES)))
    except DocumentFault as fault:
        return str(fault)
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"unreadable tokenizer: {path}. {error}. Export the bundle again.") from None
    return None


def _steps(data: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The steps of ``data``'s normalizer, pre-tokenizer or decoder, sequences opened."""
    value = data.get(name)
    pending = [] if value is None else [value]
    while pending:
        step = _object(pending.pop(0), name)
        if not isinstance(step.get("type"), str):
            raise DocumentFault(ErrorKind.BAD_FIELD, f"{name}.type: not a text")
        if step["type"] != "Sequence":
            yield step
            continue
        inside = step.get(_INSIDE[name])
        if not isinstance(inside, list):
            raise DocumentFault(ErrorKind.BAD_FIELD, f"{name}.{_INSIDE[name]}: not a list")
        pending[:0] = inside


def _object(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DocumentFault(ErrorKind.BAD_FIELD, f"{path}: not an object")
    return value


def _unsupported(what: str) -> DocumentFault:
    return DocumentFault(ErrorKind.UNSUPPORTED, f"{what}. {READS}")
