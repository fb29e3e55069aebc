"""tokenizer.json in many forms, and what a phone core must say to each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from document_changes import ABSENT, BAD_FIELD, NOT_JSON, TAKEN, UNSUPPORTED, changed, fields

BAD_IDS = (-1, 0.5, "0", None, True, 16777216)
TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": None,
    "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {"a": 0, "b": 1, "ab": 2, "abab": 3},
        "merges": [["a", "b"], ["ab", "ab"]],
    },
}
ADDED = {
    "id": 4, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
    "special": True,
}  # fmt: skip


def tokenizers() -> Iterator[tuple[str, str, str]]:
    """tokenizer.json: what the phone cores read; what Hugging Face's library opens besides is unsupported."""
    yield "the example", json.dumps(TOKENIZER), TAKEN
    yield "no JSON", json.dumps(TOKENIZER)[:-1], NOT_JSON
    yield "a key twice", json.dumps(TOKENIZER)[:-1] + ', "model": {}}', NOT_JSON
    yield "a token twice", json.dumps(TOKENIZER).replace('"b": 1', '"b": 1, "b": 1'), NOT_JSON
    yield "a list", "[]", BAD_FIELD
    yield "a text", '"tokenizer"', BAD_FIELD
    backwards = {**TOKENIZER, "model": dict(reversed(TOKENIZER["model"].items()))}
    yield "merges before the vocabulary", json.dumps(backwards), TAKEN
    byte_tokens = {f"<0x{byte:02X}>": byte for byte in range(256)}
    pieces = {**byte_tokens, "\u2581": 256, "a": 257, "\u2581a": 258}
    sentencepiece = {"byte_fallback": True, "vocab": pieces, "merges": [["\u2581", "a"]], "unk_token": None}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    fallback: dict[str, Any] = {
        **TOKENIZER,
        "pre_tokenizer": None,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, replace]},
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]},
        "model": {**TOKENIZER["model"], **sentencepiece},
    }
    yield "SentencePiece as Llama 2 has it", json.dumps(fallback), TAKEN
    yield from fields(
        fallback,
        {
            TAKEN: [
                ("normalizer", replace), ("normalizer", None), ("pre_tokenizer", metaspace),
                ("pre_tokenizer", {**metaspace, "prepend_scheme": "always", "split": True}),
                ("decoder", None), ("decoder", metaspace),
            ],
            UNSUPPORTED: [
                ("model.byte_fallback", False), ("decoder", {"type": "WordPiece", "prefix": "##", "cleanup": True}),
                ("decoder", TOKENIZER["decoder"]),
            ],
        },
        "SentencePiece, ",
    )  # fmt: skip
    lacking = {text: token_id for text, token_id in pieces.items() if text != "<0x41>"}
    yield "SentencePiece without one byte's token", json.dumps(changed(fallback, "model.vocab", lacking)), UNSUPPORTED
    yield from bounds(fallback)
    split = {"type": "Split", "pattern": {"Regex": "[a-z]+|\\\\s"}, "behavior": "Isolated", "invert": False}
    level = TOKENIZER["pre_tokenizer"]
    yield from fields(
        TOKENIZER,
        {
            TAKEN: [
                ("model.surprise", 1),
                ("truncation", {"direction": "Right", "max_length": 64, "strategy": "LongestFirst", "stride": 0}),
                ("padding", {
                    "strategy": {"Fixed": 32}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "a",
                }),
                ("added_tokens", [ADDED]), ("normalizer", {"type": "NFKC"}),
                ("normalizer", {"type": "Strip", "strip_left": True, "strip_right": False}),
                ("normalizer", {"type": "Sequence", "normalizers": []}),
                ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [
                    {"type": "Digits", "individual_digits": True}, level]}),
                *(
                    ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{**split, "behavior": behavior}, level]})
                    for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous")
                ),
                ("model.merges", ["a b", "ab ab"]), ("model.dropout", 0.0), ("model.end_of_word_suffix", ""),
                ("model.ignore_merges", True), ("model.unk_token", "a"), ("decoder", None),
            ],
            UNSUPPORTED: [
                ("model", {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0]], "byte_fallback": False}),
                ("model", {
                    "type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##",
                    "max_input_chars_per_word": 100, "vocab": {"a": 0},
                }),
                ("model", {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}),
                ("model.dropout", 0.5), ("model.continuing_subword_prefix", "##"),
                ("model.end_of_word_suffix", "</w>"),
                ("normalizer", {"type": "Lowercase"}), ("normalizer", {"type": "StripAccents"}),
                ("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}),
                ("normalizer", {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"}),
                ("pre_tokenizer", None), ("pre_tokenizer", {"type": "Whitespace"}),
                ("pre_tokenizer", {"type": "WhitespaceSplit"}),
                ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, level]}),
                ("pre_tokenizer", metaspace), ("decoder", {"type": "BPEDecoder", "suffix": "</w>"}),
            ],
            BAD_FIELD: [
                ("surprise", 1), ("model", ABSENT), ("model", None), ("model", []), ("model.vocab", ABSENT),
                ("model.vocab", None),
                ("model.vocab", [["a", 0]]), ("model.merges", ABSENT), ("model.merges", None),
                ("model.merges", ["a c"]), ("model.merges", [["b", "a"]]), ("model.merges", ["ab"]),
                ("model.merges", [["a"]]), ("model.merges", [["a", "b", "ab"]]),
                ("model.vocab", {"a": 0, "b": 1, "ab": 1, "abab": 3}),
                *(("model.vocab", {"a": bad, "b": 1, "ab": 2, "abab": 3}) for bad in BAD_IDS),
                ("added_tokens", [{**ADDED, "id": -1}]), ("added_tokens", [{**ADDED, "content": 1}]),
                ("added_tokens", [{"id": 4}]), ("added_tokens", {}), ("normalizer", {}),
                ("normalizer", {"type": "Sequence"}), ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [None]}),
            ],
        },
    )  # fmt: skip


def bounds(base: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Steps that make a text much longer, or are many, and added tokens that are long."""

    def replaced(old: str, new: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": {"String": old}, "content": new}

    def steps(*each: dict[str, Any]) -> tuple[str, Any]:
        return "normalizer", {"type": "Sequence", "normalizers": list(each)}

    prepend = {"type": "Prepend", "prepend": "\u2581"}
    verdicts: dict[str, list[tuple[str, Any]]] = {
        TAKEN: [
            steps(replaced("a", "b" * 64)), steps(replaced("\U0001f600", "\U0001f601" * 64)),
            steps(replaced("a", "b" * 8), replaced("c", "d" * 8)), steps({"type": "NFKC"}, replaced("abcd", "e" * 14)),
            steps(*[{"type": "NFC"}] * 32), ("normalizer", {**prepend, "prepend": "a" * 1008}),
            ("added_tokens", [{**ADDED, "id": 300, "content": "\U0001f600" * 256}]),
        ],
        UNSUPPORTED: [
            steps(replaced("a", "b" * 65)), steps(replaced("a", "b" * 8), replaced("c", "d" * 9)),
            steps({"type": "NFKD"}, {"type": "NFD"}), steps(*[{"type": "NFC"}] * 33),
            steps(*[replaced("a", "bb")] * 7), ("normalizer", {**prepend, "prepend": "a" * 1009}),
            ("added_tokens", [{**ADDED, "id": 300, "content": "x" * 257}]),
        ],
    }  # fmt: skip
    yield from fields(base, verdicts, "bounds, ")
