"""The shared cases themselves: made the same every time, enough of them, and true in Python and by a second account."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary, load_vocabulary

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parents[1] / "conformance"


def script(name: str) -> ModuleType:
    """A generator, loaded by its path."""
    spec = util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


oracle = script("decoder_oracle")
decoder_cases = script("make_decoder_cases")
logits_cases = script("make_logits_cases")
DECODER: dict[str, Any] = json.loads((FOLDER / "decoder_cases.json").read_text())
TOKENS: dict[str, Any] = json.loads((FOLDER / "tokenizer_cases.json").read_text())
LOGITS: dict[str, Any] = json.loads((FOLDER / "logits_cases.json").read_text())
PIECES = decoder_cases.pieces_of(DECODER)


def test_the_decoder_s_cases_are_what_the_generator_makes_and_the_written_ones_stay() -> None:
    assert decoder_cases.make(DECODER) == (FOLDER / "decoder_cases.json").read_text()
    names = [case["name"] for case in DECODER["cases"]]
    assert len(names) == len(set(names)) >= 300
    assert sum(not name.startswith("generated: ") for name in names) == 28
    assert set(Counter(case["expect"]["reason"] for case in DECODER["cases"])) == {"answer", "marker", "no_answer"}


@pytest.mark.parametrize("case", DECODER["cases"][:28], ids=lambda case: case["name"])
def test_the_oracle_agrees_with_what_people_wrote(case: dict[str, Any]) -> None:
    said = oracle.Oracle(decoder_cases.routing_of(DECODER["routing"], case), PIECES).decide(case["token_ids"])
    for key in ("expect", "streamed", "token_count"):
        assert said[key] == case.get(key, said[key])


@settings(max_examples=150)
@given(st.lists(st.sampled_from(sorted(PIECES)), max_size=14), st.booleans())
def test_decoder_and_oracle_agree_on_any_stream(ids: list[int], several: bool) -> None:
    markers = {"marker_token_ids": [[9, 10], [2], [3, 9, 10]]} if several else {}
    routing = decoder_cases.routing_of(DECODER["routing"], markers)
    seen, said = decoder_cases.observe(routing, PIECES, ids), oracle.Oracle(routing, PIECES).decide(ids)
    if decoder_cases.SURROGATE.search(b"".join(PIECES[i] for i in ids)):
        seen.pop("streamed"), said.pop("streamed")
    assert seen == said


@given(st.binary(max_size=12))
def test_the_oracle_decodes_utf8_as_python_does(data: bytes) -> None:
    assert oracle.decode_utf8(data, final=True) == (data.decode("utf-8", "replace"), False)


@pytest.mark.parametrize("name", sorted(TOKENS["tokenizers"]))
def test_recorded_ids_are_those_of_the_tokenizer(name: str) -> None:
    path = ROOT / TOKENS["tokenizers"][name]
    if not path.is_file():
        pytest.skip(f"{path} is made by make conformance")
    cases = [case for case in TOKENS["cases"] if case["tokenizer"] == name]
    assert len(cases) >= (300 if name == "smollm2_split" else 2000)
    tokenizer = Tokenizer.from_file(str(path))
    encodings = tokenizer.encode_batch([case["text"] for case in cases], add_special_tokens=False)
    assert [encoding.ids for encoding in encodings] == [case["ids"] for case in cases]


def test_the_built_in_tokenizer_s_ids_spell_the_text() -> None:
    """SmolLM2's would not do: it has no token for some control bytes and drops them."""
    path = ROOT / TOKENS["tokenizers"]["builtin"]
    special = tuple(token.content for token in Tokenizer.from_file(str(path)).get_added_tokens_decoder().values())
    vocabulary = Vocabulary.from_tokenizer_json(path, visible=special)
    for case in TOKENS["cases"]:
        if case["tokenizer"] == "builtin":
            assert b"".join(vocabulary[i] for i in case["ids"]) == case["text"].encode(), case["text"]


def test_recorded_texts_hold_every_byte_that_utf8_has() -> None:
    seen = {byte for case in TOKENS["cases"] for byte in case["text"].encode()}
    assert set(range(256)) - seen == {0xC0, 0xC1, *range(0xF5, 0x100)}


def test_recorded_logits_give_the_recorded_decisions() -> None:
    spec = RoutingSpec.model_validate(LOGITS["routing"])
    vocabulary = load_vocabulary(ROOT / LOGITS["tokenizer"], spec)
    raw = (FOLDER / LOGITS["logits"]["file"]).read_bytes()
    rows = np.frombuffer(raw, "<f4").reshape(-1, LOGITS["logits"]["vocab_size"])
    assert len(raw) < 2_000_000
    reasons, targets = Counter(), set()
    for case in LOGITS["cases"]:
        played = logits_cases.Rows(rows[case["first_row"] : case["first_row"] + case["rows"]], LOGITS["context_length"])
        targets.add(case["name"].split()[0])
        for decision in case["decisions"]:
            got = logits_cases.replay(played, spec, vocabulary, case["prompt_token_ids"], decision)
            assert got == decision["expect"], (case["name"], decision["marker_bias"])
            reasons[got["reason"]] += 1
    assert targets >= {"onnx", "executorch", "coreml"}
    assert min(reasons[reason] for reason in ("answer", "marker", "no_answer")) > 50


@pytest.mark.slow
def test_a_bundle_can_be_recorded_anew(tiny_bundle_folder: Path, tmp_path: Path) -> None:
    stem = tmp_path / "logits_cases_tiny"
    command = [sys.executable, str(FOLDER / "make_logits_cases.py"), str(stem), str(tiny_bundle_folder)]
    subprocess.run(command, check=True)
    data = json.loads(stem.with_suffix(".json").read_text())
    assert len(data["cases"]) > 10
    assert stem.with_suffix(".f32").stat().st_size == 4 * data["logits"]["vocab_size"] * sum(
        case["rows"] for case in data["cases"]
    )
