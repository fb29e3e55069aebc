"""Writes tokenizer_cases.json: texts and the ids that Hugging Face tokenizers gives them, for every language's port.

Usage: .venv/bin/python tests/conformance/make_tokenizer_cases.py. The same file every time. The built-in tokenizer is
the shipped one; SmolLM2's (megabytes) is made in out/conformance from the cached model, fetched on first use.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edgekit.atomic_write import write_file
from edgekit.policy.adopt import NEW_TOKENS, place_tokens
from edgekit.policy.checkpoint import read_json
from edgekit.policy.smollm2 import smollm2_folder

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "tokenizer_cases.json"
TOKENIZERS = {
    "builtin": "edgekit/policy/base/tokenizer.json",
    "smollm2": "out/conformance/smollm2/tokenizer.json",
    "smollm2_split": "out/conformance/smollm2_split/tokenizer.json",
}
SPLIT_EVERY = 6  # every sixth text is enough for the other pre-tokenizer
ABOUT = (
    "Texts and the ids that Hugging Face tokenizers 0.22 gives them with add_special_tokens=False. tokenizers names "
    "each tokenizer.json, from the repository's root; those in out/ are made by `make conformance`. builtin is "
    "ByteLevel; smollm2 is SmolLM2's (digits one by one, then ByteLevel) with edgekit's three tokens; smollm2_split is "
    "the same with Llama 3's Split regex instead, as other families have it. No letter or number is newer than Unicode "
    "13, about which the regex engines of phones differ."
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BLANKS = (" ", "\n", "\t", "\r\n", "\r", "\u00a0", "\u3000", "\u2028", "\u0085", "\x1c", "\u200b", "\ufeff", "\f")
EMOJI = (
    "\U0001f600", "\U0001f469\u200d\U0001f4bb", "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd", "1\ufe0f\u20e3",
    "\u2764\ufe0f", "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "\u2602",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f3f3\ufe0f\u200d\U0001f308", "\u2122",
)  # fmt: skip
WORDS = (
    "hello", "World", "assistance", "unknown", "answer", "Stra\u00dfe", "na\u00efve", "nai\u0308ve",
    "\u017b\u00f3\u0142w", "\u041f\u0440\u0438\u0432\u0435\u0442", "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac",
    "\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "\u0645\u0631\u062d\u0628\u0627",
    "\u0645\u064e\u0631\u0652\u062d", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0baa\u0bc6\u0bb0\u0bbf\u0baf",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u1019\u103c\u1014\u103a", "\u10d2\u10d0\u10db", "\u4f60\u597d",
    "\u3053\u3093\u306b\u3061\u306f", "\u30ab\u30bf", "\uc548\ub155", "\u1112\u1161\u11ab", "ti\u1ebfng Vi\u1ec7t",
    "\u01c6", "\ufb01n", "\u2160\u2161", "\U0001d54f\U0001d555", "\U00020000\U0002a6d6", "\u13a0\u13b5",
    "\u16a0\u16b1", "\u02b0", "\u00aa\u00ba", "\u0660\u0661", "\uff11\uff12",
)  # fmt: skip
NUMBERS = (
    "0", "7", "10", "42", "99", "100", "101", "110", "199", "200", "255", "1000", "007", "3.14159", "-1", "+12",
    "1e-9", "1,234,567", "12/25/2024", "0x1F", "192.168.0.1", "5\u00d77", "\u00bd", "\u00b2\u00b3", "\u2460", "\u2167",
    "\u0967\u0968", "\u0663\u0664", "\uff15\uff16", "\U0001d7d8\U0001d7d9", "1st", "2nd", "v2.0", "50%", "$9.99",
    "1 000", "12 30 -> 42",
)  # fmt: skip
TOKENS = (
    "<answer>", "</answer>", "<unknown> I need external assistance </unknown>", "<|end|>", "<|im_start|>",
    "<|im_end|>", "<|endoftext|>", "<answer", "</answer", "answer>", "<unknown>", "</unknown>", "<|im_start",
    "<repo_name>", "<|end", "<unknown> I need external assistance </unknown", "<jupyter_text>", "<ANSWER>",
    "<answer >",
)  # fmt: skip
MARKS = (
    "'s", "'S", "'t", "'re", "'VE", "'m", "'ll", "'d", "\u2019s", "''", '"', "...", "\u2026", "--", "\u2014", "!?",
    "()", "[]", "{}", "//", "\\", "#", "@", "&&", "||", "==", "->", "=>", "<", ">", "<<", ">>", "`", "~", "^", "_",
    "*", "**", "\u20ac", "\u00a3", "\u00ac", "\u2200", "\u2192", "\u0301", "\u20dd", "\u200d", "\ufe0f", "\x00",
    "\x7f", "\u00ad", "\ue000", "\ufffd", "\uffff",
)  # fmt: skip
SENTENCES = (
    "I'll say it's what we've done, they're John's and he'd know I'm right; DON'T SHOUT, WE'LL SEE.",
    "Use 3 7 11 12 -> 58\n", "Use 12 30 -> 42\n12 + 30 = 42\nyes\n<answer>12 + 30</answer>", "17 * 23 - 4 =",
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n",
    "def f(x):\n    return x**2  # squared\n\n\nprint(f(3))\n", "https://example.org/a?b=c&d=%20e#f",
    "\\frac{1}{2}x^{2}", "one\u00a0two\u2003three", "snake_case camelCase kebab-case SCREAMING", "a" * 200, "ab" * 70,
    " " * 90, "\n" * 33, "9" * 70, "<answer><answer></answer></answer>", "x<answer>y</answer>z", "",
    "The quick brown fox jumps over the lazy dog.", '{"a": [1, 2.5, null], "b": "\\u00e9"}', "A\u030a\u0301\u0327",
    "\u1100\u1161\u11a8\u1100", "\u0ba8\u0bbf\u0ba8\u0bbf",
    "mixed\u0645\u0631\u062d\u0628\u0627text\u4f60\u597d123\u0661\u0662",
    "tab\tseparated\tvalues\r\nand\r\nlines\r\r\n\n",
)  # fmt: skip


def texts() -> Iterator[str]:
    """All texts: written ones, every byte that UTF-8 has, then mixtures from a fixed seed."""
    yield from (*SENTENCES, *WORDS, *NUMBERS, *TOKENS, *MARKS, *EMOJI)
    yield from map(chr, range(256))  # every byte up to 0xBF, and 0xC2, 0xC3
    yield from (bytes([lead, 0x80]).decode() for lead in range(0xC4, 0xE0))
    yield from (chr(code) for code in range(0x800, 0x10000, 0x400) if not 0xD800 <= code < 0xE000)  # 0xE0 to 0xEF
    yield from (chr(code) for code in (0x10000, 0x1F300, 0x2F800, 0x50000, 0x90000, 0xE0100, 0x10FFFF))  # 0xF0 to 0xF4
    yield from (str(number) for number in range(215))
    for blank in BLANKS:
        for count in (1, 2, 3, 8):
            yield from (blank * count + "x", "x" + blank * count, "x" + blank * count + "7", blank * count)
        yield from (" " + blank + "x", blank + " x", "x" + blank + ".", "." + blank + " ", "\n" + blank + "\n x")
    random_ = random.Random(7)
    for number in range(1150):
        kinds = random_.sample((WORDS, NUMBERS, MARKS, BLANKS, EMOJI, TOKENS, WORDS, (" ",), (" ",)), 4)
        parts = [random_.choice(random_.choice(kinds)) for _ in range(random_.randint(2, 6))]
        yield (" " if number % 4 == 0 else "").join(parts)


def smollm2_tokenizer() -> dict[str, Any]:
    """SmolLM2's tokenizer.json as a policy of it has it."""
    data = read_json(smollm2_folder() / "tokenizer.json")
    place_tokens(data, NEW_TOKENS)
    return data


def make_tokenizers() -> None:
    """Write the tokenizers that are not in the repository."""
    data = smollm2_tokenizer()
    write_file(ROOT / TOKENIZERS["smollm2"], json.dumps(data) + "\n")
    split = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, level]}
    write_file(ROOT / TOKENIZERS["smollm2_split"], json.dumps(data) + "\n")


def make() -> str:
    """The file's text."""
    distinct = list(dict.fromkeys(texts()))
    lines = []
    for name, path in TOKENIZERS.items():
        tokenizer = Tokenizer.from_file(str(ROOT / path))
        chosen = distinct[::SPLIT_EVERY] if name == "smollm2_split" else distinct
        for text, encoding in zip(chosen, tokenizer.encode_batch(chosen, add_special_tokens=False), strict=True):
            lines.append(json.dumps({"tokenizer": name, "text": text, "ids": encoding.ids}))
    head = json.dumps({"about": ABOUT, "tokenizers": TOKENIZERS}, indent=1)[:-2]
    return head + ',\n "cases": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


if __name__ == "__main__":
    make_tokenizers()
    CASES.write_text(make())
