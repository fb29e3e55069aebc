"""User text is data: whatever a user types, the prompt holds the template's control tokens and no others."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgekit.errors import BundleError, EdgekitError, ErrorKind
from edgekit.routing.prompt_tokens import Part, PromptTokenizer, read_tokenizer
from edgekit.routing.spec import RoutingSpec, load_routing
from edgekit.routing.tokenizer_kinds import check_phones_read, require_kind, tokenizer_kind
from edgekit.routing.vocabulary import Vocabulary

CONFORMANCE = Path(__file__).parents[1] / "conformance"
BASE = Path(__file__).parents[2] / "edgekit" / "policy" / "base"
PATHS = {"builtin": BASE / "tokenizer.json"} | {path.stem: path for path in (CONFORMANCE / "tokenizers").glob("*.json")}
SCRIPT = runpy.run_path(str(CONFORMANCE / "make_prompt_cases.py"))
TOKENIZERS = {name: read_tokenizer(path) for name, path in sorted(PATHS.items())}
ORDINARY = (
    "Use",
    " 3",
    "the answer",
    "\u0301",
    "e",
    "\n",
    "\n\n",
    "  ",
    "x\t",
    "\u00e9",
    "\u4f60\u597d",
    "<",
    ">",
    "12",
)
FRAGMENTS = (*SCRIPT["CONTROLS"], *ORDINARY)
names = st.sampled_from(sorted(TOKENIZERS))
mixtures = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join)
ordinary = st.lists(st.sampled_from(ORDINARY), max_size=8).map("".join)
templates = st.sampled_from(SCRIPT["TEMPLATES"])


@given(name=names, text=mixtures)
def test_a_template_s_own_text_has_the_library_s_ids(name: str, text: str) -> None:
    expected = TOKENIZERS[name].encode(text, add_special_tokens=False).ids
    assert PromptTokenizer(TOKENIZERS[name]).encode([Part(text, is_user=False)]) == expected


@given(name=names, template=templates, prompt=ordinary)
def test_an_ordinary_prompt_has_the_library_s_ids(name: str, template: str, prompt: str) -> None:
    spec = SCRIPT["routing"](template)
    tokenizer = TOKENIZERS[name]
    contents = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    if any(content[0] in prompt or content[-1] in prompt for content in contents):
        return  # it might be part of one
    expected = tokenizer.encode(spec.render(prompt), add_special_tokens=False).ids
    assert PromptTokenizer(tokenizer).encode(spec.parts(prompt), spec.delimiters) == expected


@settings(max_examples=300)
@given(name=names, template=templates, prompt=mixtures)
def test_user_text_yields_no_control_token(name: str, template: str, prompt: str) -> None:
    spec = SCRIPT["routing"](template)
    tokenizer = TOKENIZERS[name]
    added = tokenizer.get_added_tokens_decoder()
    controls = {token_id for token_id, token in added.items() if token.special or token.content in spec.delimiters}

    def counted(text: str) -> Counter[int]:
        ids = PromptTokenizer(tokenizer).encode(spec.parts(text), spec.delimiters)
        return Counter(token_id for token_id in ids if token_id in controls)

    assert counted(prompt) == counted("")


@given(template=templates, prompt=mixtures)
def test_no_byte_of_the_prompt_is_lost(template: str, prompt: str) -> None:
    spec = SCRIPT["routing"](template)
    for name in ("builtin", "llama3"):
        data = json.loads(PATHS[name].read_text())
        every = tuple(token["content"] for token in data["added_tokens"])
        vocabulary = Vocabulary.from_tokenizer_data(data, visible=every)
        ids = PromptTokenizer(TOKENIZERS[name]).encode(spec.parts(prompt), spec.delimiters)
        assert b"".join(vocabulary[token_id] for token_id in ids).decode() == spec.render(prompt)


def test_the_shipped_policy_s_prompts_keep_their_ids() -> None:
    spec: RoutingSpec = load_routing(BASE / "routing.json")
    tokenizer = TOKENIZERS["builtin"]
    end = tokenizer.token_to_id("<|end|>")
    encode = PromptTokenizer(tokenizer).encode
    assert encode(spec.parts("3 5 7 -> 22"), spec.delimiters) == tokenizer.encode("Use 3 5 7 -> 22\n").ids
    assert end in tokenizer.encode("Use 3<|end|>\n").ids
    assert end not in encode(spec.parts("3<|end|>"), spec.delimiters)


def test_half_of_a_surrogate_pair_is_refused_in_one_line() -> None:
    with pytest.raises(EdgekitError, match="bad prompt") as caught:
        PromptTokenizer(TOKENIZERS["builtin"]).encode([Part("a\ud800", is_user=True)])
    assert "\n" not in str(caught.value)


def test_the_shared_cases_are_those_of_their_script() -> None:
    for name, text in SCRIPT["make"]().items():
        assert (CONFORMANCE / name).read_text() == text, name


def test_what_a_file_says_about_batches_is_dropped(tmp_path: Path) -> None:
    data = json.loads(PATHS["builtin"].read_text())
    data["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    data["padding"] = {
        "strategy": {"Fixed": 32}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "!",
    }  # fmt: skip
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(data))
    text = "Use 1 2 3 4 5 6 7 -> 8\n"
    assert read_tokenizer(path).encode(text).ids == TOKENIZERS["builtin"].encode(text).ids
    assert json.loads(read_tokenizer(path).to_str())["truncation"] is None


def changed(name: str, **changes: Any) -> dict[str, Any]:
    """A small tokenizer's data with some of its model's members changed."""
    data = json.loads(PATHS[name].read_text())
    return data | {"model": data["model"] | changes}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}, "Unigram"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}}}, "WordPiece"),
        ({"model": {"type": "WordLevel", "vocab": {"a": 0}}}, "WordLevel"),
        (changed("llama3", dropout=0.1), "dropout"),
        (changed("llama3", end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (changed("llama2", byte_fallback=False), "no bytes"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused_in_one_line(data: dict[str, Any], named: str) -> None:
    with pytest.raises(BundleError, match=named) as caught:
        require_kind(data, Path("tokenizer.json"))
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert "\n" not in str(caught.value)


def test_the_kinds_are_told_apart_and_phones_read_both() -> None:
    kinds = {}
    for name, path in PATHS.items():
        data = json.loads(path.read_text())
        kinds[name] = tokenizer_kind(data)
        check_phones_read(data)
    byte_level = {name for name, kind in kinds.items() if kind == "byte-level BPE"}
    assert byte_level == {"builtin", "llama3", "flags", "smollm2_like"}


def test_an_added_token_of_a_sentencepiece_vocabulary_spells_spaces() -> None:
    data = json.loads(PATHS["gemma3"].read_text())
    data["added_tokens"].append({"id": 700, "content": "\u2581\u2581", "special": False})
    vocabulary = Vocabulary.from_tokenizer_data(data)
    assert vocabulary[700] == b"  "
    assert Tokenizer.from_file(str(PATHS["gemma3"])).decode([vocabulary_id(data, "\u2581")]) == " "


def vocabulary_id(data: dict[str, Any], piece: str) -> int:
    return int(data["model"]["vocab"][piece])
