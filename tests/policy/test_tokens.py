"""The built-in tokenizer: one token per integer and per marker, any text back unchanged, the same in transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgekit.policy.tokens import END, INTEGERS, MARKER, build_tokenizer, padded_vocabulary_size
from edgekit.routing.vocabulary import Vocabulary

TOKENIZER = build_tokenizer()
COMPLETION = f"Use 3 15 7 -> 22\n15 - 3 = 12\nyes\n<answer>(15 - 3) * 7</answer>{END}no\n{MARKER}"


@pytest.mark.parametrize("space", ["", " "])
def test_every_integer_is_one_token(space: str) -> None:
    ids = [TOKENIZER.encode(f"{space}{number}").ids for number in range(INTEGERS)]
    assert {len(each) for each in ids} == {1}
    assert len({each[0] for each in ids}) == INTEGERS


def test_marker_and_stop_are_single_special_tokens() -> None:
    for text in (MARKER, END):
        assert TOKENIZER.encode(text).ids == [TOKENIZER.token_to_id(text)]
        assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == ""


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False) == text


@given(st.text(alphabet="0123456789 +-*/()=\n", max_size=40), st.text(alphabet="0123456789 +-*/()=", max_size=40))
def test_lines_can_be_encoded_apart(first: str, second: str) -> None:
    first, second = f"{first.strip()} 1\n", f"1{second}"
    assert TOKENIZER.encode(first + second).ids == TOKENIZER.encode(first).ids + TOKENIZER.encode(second).ids


def test_vocabulary_fits_its_padded_size_and_builds_the_same_each_time() -> None:
    size = padded_vocabulary_size(TOKENIZER)
    assert size % 32 == 0
    assert TOKENIZER.get_vocab_size() <= size < 900
    assert build_tokenizer().to_str() == TOKENIZER.to_str()


def test_the_decoder_vocabulary_spells_the_same_bytes(tmp_path: Path) -> None:
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    vocabulary = Vocabulary.from_tokenizer_json(tmp_path / "tokenizer.json", visible=(MARKER, END))
    ids = TOKENIZER.encode(COMPLETION + " é 🙂").ids
    assert b"".join(vocabulary[token_id] for token_id in ids).decode() == COMPLETION + " é 🙂"


def test_transformers_and_tokenizers_agree(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(str(path))
    loaded = Tokenizer.from_file(str(path))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
    for text in (COMPLETION, "héllo 12345 000 １２\t\n\n 7", MARKER[:-1], f" {MARKER}x"):
        assert fast(text, add_special_tokens=False)["input_ids"] == loaded.encode(text).ids
