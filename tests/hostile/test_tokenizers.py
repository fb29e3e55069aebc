"""Tokenizers made to take time or memory without end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile.counting import Survives
from tokenizers import AddedToken

from edgekit.errors import BundleError, EdgekitError
from edgekit.policy.tokens import build_tokenizer
from edgekit.routing import prompt_encoder
from edgekit.routing.added_tokens import AddedTokens
from edgekit.routing.prompt_encoder import encoder_of
from edgekit.routing.prompt_tokens import Part, PromptTokenizer, read_tokenizer
from edgekit.routing.tokenizer_bounds import KNOWN, is_linear
from edgekit.routing.vocabulary import Vocabulary

EXPRESSIONS = (
    "(a|aa)+$", "(a*)*c", "(a+)+c", "(a|a)*c", ".*.*.*.*.*c", "a*a*a*a*a*a*c", "(?=(a+))\\1*c",
    "(.*)\\1\\1\\1c", "((a{1,90}){1,90}){1,90}c",
    "(?<!a{1,100})c", "",
)  # fmt: skip
MULTIPLY = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
NORMALIZERS: tuple[Any, ...] = (
    {"type": "Sequence", "normalizers": [MULTIPLY] * 40},
    {"type": "Sequence", "normalizers": [MULTIPLY] * 31},
    {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 1_000_000},
    {"type": "Replace", "pattern": {"Regex": ""}, "content": "b" * 1_000_000},
    {"type": "Replace", "pattern": {"String": ""}, "content": "b" * 1_000_000},
    {"type": "Prepend", "prepend": "b" * 1_000_000},
    {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "NFKC"}]},
    {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 33},
    {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
)
PARTS = [Part("a" * 3000 + "b", is_user=True)]


def with_step(path: Path, name: str, step: Any) -> Path:
    data = json.loads(build_tokenizer().to_str())
    before = data[name]
    data[name] = {"type": "Sequence", f"{name.replace('_', '')}s": [step, *([before] if before else [])]}
    path.write_text(json.dumps(data))
    return path


def test_a_tokenizer_that_multiplies_a_text_is_refused(tmp_path: Path, survives: Survives) -> None:
    def attempt(step: Any) -> None:
        with pytest.raises(BundleError):
            read_tokenizer(with_step(tmp_path / "tokenizer.json", "normalizer", step))

    survives("tokenizer: makes more of a text", NORMALIZERS, attempt)


def test_tokenizers_whose_bytes_or_time_nobody_knows_are_refused(tmp_path: Path, survives: Survives) -> None:
    honest = json.loads(build_tokenizer().to_str())
    vocabulary = {"[UNK]": 0, "a": 1}
    long = {
        "id": 5000,
        "content": "<" * 257,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
    }
    hostile = (
        {"model": {"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]", "max_input_chars_per_word": 10**9}},
        {"model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}},
        {"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}},
        {"model": honest["model"] | {"dropout": 0.5}},
        {"model": honest["model"] | {"vocab": dict.fromkeys(honest["model"]["vocab"], 0)}},
        {"pre_tokenizer": None},
        {"added_tokens": [*honest["added_tokens"], long | {"special": True}]},
    )

    def attempt(change: dict[str, Any]) -> None:
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(honest | change))
        Vocabulary.from_tokenizer_json(path)
        read_tokenizer(path)

    survives("tokenizer: another kind", hostile, attempt, all_refused=True)


def test_thousands_of_added_tokens_are_looked_up_and_not_tried_one_after_another() -> None:
    tokens = {f"<unused{n}>": (n, AddedToken(f"<unused{n}>")) for n in range(20_000)}
    text = "<" * 100_000 + "<unused19999>"  # takes minutes where each place is held against each token
    assert list(AddedTokens(tokens).split(text, [range(len(text))])) == [range(100_000), 19999]


def test_known_tokenizers_are_used_here_and_others_elsewhere_with_the_same_ids(tmp_path: Path) -> None:
    assert is_linear(build_tokenizer())
    for expression in [*KNOWN, "[a-z]+|\\s"]:
        split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        tokenizer = read_tokenizer(with_step(tmp_path / "tokenizer.json", "pre_tokenizer", split))
        assert is_linear(tokenizer) == (expression in KNOWN)
        parts = [Part("3 + 5\n", is_user=False), Part("3 5 7 -> 22 \u00e9 <answer>", is_user=True)]
        ids = PromptTokenizer(tokenizer).encode(parts, ("<answer>",))
        if expression not in KNOWN:
            encoder = encoder_of(tokenizer)
            assert encoder.encode(parts, ("<answer>",)) == ids
            with pytest.raises(EdgekitError, match="bad prompt"):
                encoder.encode([Part("\ud800", is_user=True)])


@pytest.mark.slow
def test_an_expression_without_end_is_one_line(
    tmp_path: Path, survives: Survives, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prompt_encoder, "SECONDS", 3.0)

    def attempt(expression: str) -> None:
        split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        encoder_of(read_tokenizer(with_step(tmp_path / "tokenizer.json", "pre_tokenizer", split))).encode(PARTS)

    survives("tokenizer: expressions", EXPRESSIONS, attempt)
    assert capfd.readouterr().err == ""  # a panic's backtrace is not the user's
