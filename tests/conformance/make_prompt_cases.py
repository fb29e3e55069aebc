"""Writes what every language's tokenizer is held to besides tokenizer_cases.json, over the small tokenizers beside it.

Usage: .venv/bin/python tests/conformance/make_prompt_cases.py. tokenizer_cases_small.json: texts with the ids that
Hugging Face tokenizers gives them. prompt_cases.json: prompts in templates, in which user text is data, with the ids
that edgekit's Python gives them (tests/routing/test_prompt_tokens.py holds those to the library).
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edgekit.routing.prompt_tokens import PromptTokenizer
from edgekit.routing.spec import RoutingSpec

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from make_tokenizer_cases import BLANKS, EMOJI, MARKS, NUMBERS, WORDS, texts  # noqa: E402
from small_tokenizers import MARKER  # noqa: E402

SMALL = {
    path.stem: f"tests/conformance/tokenizers/{path.name}" for path in sorted((HERE / "tokenizers").glob("*.json"))
}
ALL = {"builtin": "edgekit/policy/base/tokenizer.json", **SMALL}
TEXTS_EVERY = 7
TEMPLATES = (
    "Use {prompt}\n",
    "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n",
    "<s>[INST] {prompt} [/INST]",
    "{prompt}",
    "Twice: {prompt}, and {prompt}.",
    "<tool>2{prompt}<tool>2 word {prompt}word",
    "caf{prompt}\u0301 cafe\u0301",
    "<|im_{prompt}_start|>\n\n",
)  # fmt: skip
CONTROLS = (
    "<|im_end|>", "<|im_start|>assistant", "<|end|>", "</s>", "<s>", MARKER, "<answer>", "</answer>42", "start|>",
    "end|>", "<tool>", "<tool>2", " <tool>2 ", "word", "caf\u00e9", "cafe\u0301", "e\u0301", "\u00e9", "the answers",
    "an answer", "<unk>", "<0x0A>", "\u2581", "\n\n", "{prompt}",
)  # fmt: skip


def routing(template: str) -> RoutingSpec:
    """Routing data with ``template``; "an" is a delimiter that one tokenizer's merges reach."""
    data = {
        "marker": {"text": MARKER, "token_ids": [[1]]},
        "answer": {"open": "<answer>", "close": "an"},
        "stop_token_ids": [],
        "max_new_tokens": 8,
        "prompt_template": template,
    }
    return RoutingSpec.model_validate(data)


def prompts() -> Iterator[str]:
    """Written ones, then mixtures from a fixed seed."""
    yield from ("", " ", "3 7 11 12 -> 58", "What is 2+2?", "\u0301", *CONTROLS)
    draw = random.Random(11)
    for _ in range(40):
        kinds = draw.choices((CONTROLS, CONTROLS, WORDS, NUMBERS, MARKS, BLANKS, EMOJI), k=draw.randint(2, 5))
        yield draw.choice(("", " ")).join(draw.choice(kind) for kind in kinds)


def prompt_cases() -> Iterator[dict[str, Any]]:
    """Each tokenizer with every prompt, each in one of the templates, the user's controls in all of them."""
    for name, path in ALL.items():
        tokenizer = PromptTokenizer(Tokenizer.from_file(str(HERE.parents[1] / path)))
        for number, prompt in enumerate(dict.fromkeys(prompts())):
            spec = routing(TEMPLATES[number % len(TEMPLATES)])
            ids = tokenizer.encode(spec.parts(prompt), spec.delimiters)
            yield {"tokenizer": name, "template": spec.prompt_template, "prompt": prompt, "ids": ids}


def tokenizer_cases() -> Iterator[dict[str, Any]]:
    """Each small tokenizer with some of the shared texts."""
    chosen = list(dict.fromkeys(texts()))[::TEXTS_EVERY]
    for name, path in SMALL.items():
        tokenizer = Tokenizer.from_file(str(HERE.parents[1] / path))
        for text in chosen:
            yield {"tokenizer": name, "text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids}


def file_text(head: dict[str, Any], cases: Iterator[dict[str, Any]]) -> str:
    """A file of cases, one a line."""
    lines = ",\n  ".join(map(json.dumps, cases))
    return json.dumps(head, indent=1)[:-2] + ',\n "cases": [\n  ' + lines + "\n ]\n}\n"


def make() -> dict[str, str]:
    """The text of each file."""
    delimiters = list(routing(TEMPLATES[0]).delimiters)
    return {
        "tokenizer_cases_small.json": file_text({"tokenizers": SMALL}, tokenizer_cases()),
        "prompt_cases.json": file_text({"tokenizers": ALL, "delimiters": delimiters}, prompt_cases()),
    }


if __name__ == "__main__":
    for name, text in make().items():
        (HERE / name).write_text(text)
