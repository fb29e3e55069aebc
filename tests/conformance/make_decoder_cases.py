"""Writes the generated cases of decoder_cases.json; the hand-written ones, and their pieces, stay as they are.

Usage: .venv/bin/python tests/conformance/make_decoder_cases.py. The same file every time. What a case expects is what
edgekit's decoder does, and the oracle beside this file has to say the same.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from decoder_oracle import BLANKS, Oracle

from edgekit.routing.decoder import RoutingDecoder
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary

CASES = Path(__file__).parent / "decoder_cases.json"
GENERATED = "generated: "
MARKER_TEXT = "<unknown> I need external assistance </unknown>"
MARKER, STOP, ANSWER, END = 2, 21, 0, 1
LINE, SPACE, HELLO = 3, 4, 16
FIRST_BYTE = 100  # id 100 + b spells the byte b
ABOUT = (
    "Cases of the routing-token decoder, for every language's port. Push token_ids one by one, then finish. A case may "
    "override on_no_answer, stop_token_ids, answer, prompt_template, and the marker's text and token_ids (as "
    "marker_text and marker_token_ids) of routing. streamed, where given, is what each push returns; token_count, "
    "where given, is how many tokens the decision holds (else all). byte_pieces are hexadecimal; a token id in neither "
    "table spells nothing. Text is compared code point by code point. make_decoder_cases.py writes the cases named "
    "generated."
)
# Text that is awkward to split, to compare or to search, from id 40 on.
TEXTS = (
    "\r\n", "\r", "\U0001f600", "e\u0301", "\u00e9", "\u0301", "\u200d", "\ufeff", "\u2028", "\x00",
    "</answer", ">", "<answer", "answer>", "</", "/answer>", "<answer>5</answer>", "</unknown>", " </unknown",
    "<unknown>", "<unknown> I need external assistance <", "< <unknown> ", "\n\n", " \n", "\n ", "I need",
    "</answer>\n<answer>", "<answer><answer>", "\n<unknown> I", "<<<", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a", "b", "aa", "ab", "\U0001f198", "[", "]", "[[", "call", "ask\n", "me", "12", " 3",
)  # fmt: skip
# What a policy thinks, in whole tokens and in pieces, from id 400 on: a byte's token comes before.
THOUGHTS = (
    "<think>", "</think>", "<thi", "nk>", "</th", "ink>", "<think>\n", "\n</think>\n\n", "think", "<think></think>",
    "The answer goes between <answer> and </answer>.", "<think>hm", "</think><answer>7</answer>",
)  # fmt: skip
RAW = ("e282", "82ac", "f09f", "9880", "f09f98", "80", "c3a9c3", "a9", "e2", "0ae2", "3ce2", "ff", "c0af", "eda080")
FIRST_TEXT, FIRST_RAW, FIRST_THOUGHT = 40, 84, 400
ID_OF = {text: FIRST_TEXT + index for index, text in enumerate(TEXTS)}
ID_OF |= {text: FIRST_THOUGHT + index for index, text in enumerate(THOUGHTS)}
SOUP = [
    *range(23),
    *range(FIRST_TEXT, FIRST_TEXT + len(TEXTS)),
    *range(FIRST_RAW, FIRST_RAW + len(RAW)),
    30,
    31,
    32,
    33,
    999,
]
# Ill-formed UTF-8 and its neighbours.
SEQUENCES = (
    "c0af", "c1bf", "c280", "dfbf", "c2", "c241", "c2c2", "e08080", "e09fbf", "e0a080", "e0a0", "e0a041", "e18080",
    "e180", "e1", "e141", "ed9fbf", "eda080", "edbfbf", "ed80", "ee8080", "efbfbd", "efbfbf", "f0808080", "f08fbfbf",
    "f0908080", "f09080", "f090", "f0", "f09041", "f48fbfbf", "f4908080", "f48f", "f5808080", "f8888080", "ff", "fe",
    "80", "bf80bf", "e282c3a9", "f09f98e282ac", "f09f98f09f9880", "c3e2f0", "e2e282ac", "ed41", "f4a0", "f09f0a9880",
)  # fmt: skip
# Python waits for the third byte of an encoded surrogate before it replaces the first: when text streams, not which.
SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")


OVERRIDES = ("on_no_answer", "stop_token_ids", "answer", "prompt_template")


def spell(data: bytes) -> list[int]:
    """The tokens of ``data``, a byte each."""
    return [FIRST_BYTE + byte for byte in data]


def chop(data: bytes, random_: random.Random, whole: dict[bytes, list[int]]) -> list[int]:
    """Tokens of ``data``: at every place any token that spells what comes next, or a byte."""
    ids, at = [], 0
    while at < len(data):
        fitting = [piece for piece in whole if data.startswith(piece, at)]
        piece = random_.choice([*fitting, data[at : at + 1]])
        ids.append(random_.choice(whole[piece]) if piece in whole else FIRST_BYTE + data[at])
        at += len(piece)
    return ids


def written() -> Iterator[tuple[str, list[int], dict[str, Any]]]:
    """Cases whose point can be named: (name, tokens, overrides)."""
    answer = [ANSWER, 8, END]
    blanks = [*BLANKS, "\u200b", "\ufeff", "\u180e", "\u2060", "\x00", "\u0301", "\x08", "\x7f", "\u00ad", "\u3164"]
    for character in blanks:
        yield f"U+{ord(character):04X} before the marker", [*spell(character.encode()), MARKER], {}
        inside = spell((character + "7" + character).encode())
        yield f"U+{ord(character):04X} around an answer", [ANSWER, *inside, END], {}
    for character in "\r\u2028\u0085\v\f":
        raw = spell(character.encode())
        yield f"U+{ord(character):04X} after text begins no line", [HELLO, *raw, MARKER, *answer], {}
    yield "CR LF after text begins a line", [HELLO, ID_OF["\r\n"], MARKER], {}
    yield "CR LF in two tokens begins a line", [HELLO, ID_OF["\r"], LINE, MARKER], {}
    yield "a combining mark after the closing delimiter", [ANSWER, 8, END, ID_OF["\u0301"]], {}
    yield "a combining mark in the closing token", [*spell("<answer>7</answer>\u0301".encode())], {}
    yield "a combining mark after the opening delimiter", [ANSWER, ID_OF["\u0301"], 8, END], {}
    yield "a combining mark after the marker's text", [*spell(MARKER_TEXT.encode()), ID_OF["\u0301"], LINE, *answer], {}
    yield "a joiner within the marker's text", [10, ID_OF["\u200d"], 11, 12, LINE, *answer], {}
    yield "two opening delimiters", [ANSWER, ANSWER, 8, END], {}
    yield "a closing delimiter before any answer", [END, LINE, MARKER], {}
    yield "a closing delimiter first, then an answer", [END, *answer], {}
    yield "an answer closed twice", [ANSWER, 8, END, END, MARKER], {}
    yield "delimiters around nothing", [ANSWER, END], {}
    yield "delimiters around white space", [ANSWER, SPACE, LINE, 18, END], {}
    yield "a whole answer in one token", [ID_OF["<answer>5</answer>"]], {}
    yield "one answer closed and another opened in one token", [ANSWER, 8, ID_OF["</answer>\n<answer>"], 7, END], {}
    yield "a marker where an unopened answer was closed", [HELLO, END, LINE, MARKER], {}
    yield "a marker after an opening cut in two", [LINE, 19, MARKER], {}
    yield "a marker between the halves of an opening", [19, 2, 20, 8, END], {}
    yield "a marker token between markers in text", [9, 10, 11, 12, 2, 9, 10, 11, 12, LINE, *answer], {}
    yield "two markers on one line", [HELLO, MARKER, MARKER, STOP], {}
    yield "a marker after a quoted one on its own line", [HELLO, MARKER, LINE, MARKER], {}
    yield "a marker after one removed from its line", [9, 10, 11, 12, MARKER, STOP], {}
    yield "a marker's text in an answer", [ANSWER, 9, 10, 11, 12, END], {}
    yield "a marker's text around a marker in an answer", [ANSWER, 13, MARKER, 14, 8, END], {}
    yield "a marker of an odd id", [999, MARKER], {}
    yield "nothing but unknown ids", [999, 998, STOP], {}
    yield "a stop token first", [STOP], {}
    yield "a stop token, then a marker", [STOP, MARKER], {}
    yield "a stop token after half a character", [HELLO, 30, 31, STOP], {}
    yield "a stop token in an answer", [ANSWER, 8, STOP, END], {}
    yield "a stop token between the pieces of a marker", [9, 10, STOP, 11, 12], {"marker_token_ids": [[9, 10, 11, 12]]}
    yield "a stop token that ends a marker", [LINE, 9, STOP], {"marker_token_ids": [[9, STOP]]}
    yield "a stop token that ends a quoted marker", [HELLO, 9, STOP], {"marker_token_ids": [[9, STOP]]}
    yield "the second stop token", [HELLO, 7, 6], {"stop_token_ids": [STOP, 7]}
    yield "no stop token at all", [HELLO, STOP, LINE, MARKER], {"stop_token_ids": []}
    yield "a stop token with text shows none of it", [HELLO, 7], {"stop_token_ids": [7]}
    yield "half a character, then a marker of several tokens", [30, 9, 10], {"marker_token_ids": [[9, 10]]}
    yield "half a character within a marker", [LINE, 30, MARKER], {"marker_token_ids": [[30, MARKER]]}
    yield "a line's end hidden behind half a character", [HELLO, 30, LINE, MARKER], {}
    yield "a character's first byte, then a line's end and a marker", [FIRST_BYTE + 0xF0, LINE, MARKER], {}
    yield "a byte order mark first", [ID_OF["\ufeff"], MARKER], {}
    yield "a zero byte in text", [ID_OF["\x00"], HELLO, LINE, *answer], {}
    for cut in range(1, len(answer) + 2):
        yield f"cut after {cut} of the tokens of an answer", [LINE, *answer][:cut], {"on_no_answer": "local"}


def thoughts(random_: random.Random) -> Iterator[tuple[str, list[int], dict[str, Any]]]:
    """Delimiters within <think> and </think> are text; the marker is a call there too."""
    think, close, quote = ID_OF["<think>"], ID_OF["</think>"], ID_OF["The answer goes between <answer> and </answer>."]
    answer, begun = [ANSWER, 8, END], {"prompt_template": "{prompt}\n<think>\n"}
    yield "delimiters in a thought are text", [think, quote, 5, close, LINE, *answer], {}
    yield "delimiter tokens in a thought are text", [think, ANSWER, 7, END, close, LINE, *answer], {}
    yield "an answer in a thought that nothing closes is none", [think, *answer, STOP], {}
    yield "an answer in a thought, cut off", [think, LINE, *answer], {"on_no_answer": "local"}
    yield "a marker in a thought is a call", [think, LINE, MARKER], {}
    yield "a marker after an answer opened in a thought is a call", [think, ANSWER, 8, LINE, MARKER], {}
    yield "a marker quoted in a thought is no call", [think, HELLO, MARKER, close, *answer], {}
    yield "a marker right after a thought's opening is no call", [think, MARKER, close, *answer], {}
    yield "a marker after a thought on its line is no call", [think, close, MARKER, LINE, *answer], {}
    yield "a marker on the line after a thought", [think, close, LINE, MARKER], {}
    yield "a thought in an answer is text", [ANSWER, think, 8, close, END], {}
    yield "a thought opened in an answer stays text", [ANSWER, think, END], {}
    yield "a thought within a thought", [think, think, quote, close, LINE, *answer], {}
    yield "a second thought", [think, quote, close, HELLO, think, quote, close, LINE, *answer], {}
    yield "a thought's end without its beginning", [HELLO, close, LINE, *answer], {}
    yield (
        "a thought's delimiters in pieces",
        [ID_OF["<thi"], ID_OF["nk>"], quote, ID_OF["</th"], ID_OF["ink>"], *answer],
        {},
    )
    yield "a thought's beginning only", [ID_OF["<thi"], ID_OF["think"], quote], {}
    yield "an empty thought in one token", [ID_OF["<think></think>"], *answer], {}
    yield "a thought closed and answered in one token", [think, quote, ID_OF["</think><answer>7</answer>"]], {}
    yield "a stop token in a thought", [think, quote, STOP], {}
    yield "the prompt begins the thought", [quote, ID_OF["\n</think>\n\n"], *answer], begun
    yield "the prompt begins a thought that nothing closes", [quote, *answer], begun
    yield "the prompt begins a thought with a call in it", [LINE, MARKER], begun
    yield "the prompt holds an empty thought", answer, {"prompt_template": "{prompt}\n<think>\n\n</think>\n\n"}
    yield (
        "the instruction speaks of thoughts",
        answer,
        {"prompt_template": "Reason between </think> and <think>. {prompt}"},
    )
    yield (
        "an answer's opening that is a thought's",
        [think, 8, END],
        {"answer": {"open": "<think>", "close": "</answer>"}},
    )
    yield (
        "an answer's opening that holds a thought's",
        [ID_OF["<think>hm"], 8, END, close, LINE, *answer],
        {"answer": {"open": "<think>hm", "close": "</answer>"}},
    )
    alphabet = [*(ID_OF[text] for text in THOUGHTS), MARKER, STOP, LINE, HELLO, ANSWER, 8, END, 9, 10, 30, 19, 20]
    for number in range(80):
        overrides = begun if number % 4 == 3 else {}
        yield f"thoughts {number + 1}", random_.choices(alphabet, k=random_.randint(3, 14)), overrides


def sequences_of_markers(random_: random.Random) -> Iterator[tuple[str, list[int], dict[str, Any]]]:
    """Several marker id sequences, overlapping and nested."""
    sets = [
        [[9, 10], [9, 10, 11, 12]],
        [[9, 9, 10]],
        [[10], [9, 10]],
        [[9, 10, 9, 11], [9, 11]],
        [[LINE, 10]],
        [[SPACE, 9]],
        [[2], [9, 10, 11, 12], [13, 14]],
    ]
    for number, markers in enumerate(sets):
        alphabet = [*{i for ids in markers for i in ids}, 3, 3, 4, 16, 0, 1]
        for case in range(6):
            ids = random_.choices(alphabet, k=random_.randint(2, 9))
            if case % 2:
                at = random_.randint(0, len(ids))
                ids[at:at] = random_.choice([[], [LINE]]) + random_.choice(markers)
            yield f"marker sequences {number + 1}, stream {case + 1}", ids, {"marker_token_ids": markers}


def other_markers(random_: random.Random) -> Iterator[tuple[str, list[int], dict[str, Any]]]:
    """Markers whose beginnings overlap themselves, hold emoji or end like other text."""
    texts = ["aab", "aa", "abab", "<<a", "\U0001f198\U0001f198", "e\u0301!", "\u00e9!", "[[call]]", "ask\nme", "\r\n"]
    for text in [*texts, "a"]:
        raw = text.encode()
        alphabet = [*(FIRST_BYTE + b for b in raw), *(ID_OF[t] for t in TEXTS if t in text or text in t), 3, 0, 1, 16]
        for stream in range(6):
            ids = random_.choices(alphabet, k=random_.randint(3, 12))
            if stream % 2:
                at = random_.randint(0, len(ids))
                ids[at:at] = spell(raw)
            yield f"marker {text!a}, stream {stream + 1}", ids, {"marker_text": text}


def other_answers(random_: random.Random) -> Iterator[tuple[str, list[int], dict[str, Any]]]:
    """Delimiters that begin alike, hold each other, or need care to find."""
    delimiters = [("[", "]"), ("[[", "]"), ("<", "<<<"), ("a", "ab"), ("\u00e9", "\u0301"), ("\r\n", "\n\n")]
    for opening, closing in delimiters:
        alphabet = [ID_OF[t] for t in TEXTS if opening in t or closing in t or t in opening + closing] + [2, 3, 5, 9]
        for stream in range(4):
            ids = spell(opening.encode()) if stream % 2 else []
            ids += random_.choices(alphabet, k=random_.randint(3, 10))
            name = f"answers between {opening!a} and {closing!a}, stream {stream + 1}"
            yield name, ids, {"answer": {"open": opening, "close": closing}}


def broken_text(random_: random.Random) -> Iterator[tuple[str, list[int], dict[str, Any]]]:
    """Ill-formed UTF-8: byte by byte and cut short, before text, a marker or a stop token."""
    for sequence in SEQUENCES:
        ending = random_.choice([[], [STOP], [HELLO, STOP], [MARKER], [LINE, MARKER], [*spell("\u20ac".encode())]])
        opening = random_.choice([[], [HELLO], [LINE], [ANSWER], [FIRST_BYTE + 0xE2]])
        yield f"bytes {sequence}", [*opening, *spell(bytes.fromhex(sequence)), *ending], {}


def soups(random_: random.Random, whole: dict[bytes, list[int]]) -> Iterator[tuple[str, list[int], dict[str, Any]]]:
    """Streams of anything, and texts that look like responses chopped into any tokens."""
    for number in range(60):
        yield f"soup {number + 1}", random_.choices(SOUP, k=random_.randint(4, 16)), {}
    parts = ["<answer>", "</answer>", MARKER_TEXT, MARKER_TEXT[:20], MARKER_TEXT[9:], "\n", " ", "\r\n", "x < y"]
    parts += ["\u20ac", "\U0001f600", "he said: ", "7", "<unknown> I need external assistance <", "</unknown>"]
    for number in range(60):
        text = "".join(random_.choices(parts, k=random_.randint(2, 6)))
        ids = chop(text.encode(), random_, whole)
        if number % 3 == 0:
            ids.insert(random_.randint(0, len(ids)), random_.choice([MARKER, STOP]))
        if number % 5 == 0:
            ids = ids[: random_.randint(1, len(ids))]
        yield f"chopped text {number + 1}", ids, {}


def routing_of(routing: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """``routing`` with the case's overrides."""
    changed = {key: case[key] for key in OVERRIDES if key in case}
    marker = {key: case.get(f"marker_{key}", routing["marker"][key]) for key in ("text", "token_ids")}
    return {**routing, **changed, "marker": marker}


def observe(routing: dict[str, Any], pieces: dict[int, bytes], ids: list[int]) -> dict[str, Any]:
    """What edgekit's decoder makes of ``ids``: expect, streamed, token_count."""
    decoder = RoutingDecoder(RoutingSpec.model_validate(routing), Vocabulary(pieces))
    streamed = [decoder.push(token) for token in ids]
    decision = decoder.finish()
    expect = {key: getattr(decision, key) for key in ("route", "reason", "text", "answer")}
    return {"expect": expect, "streamed": streamed, "token_count": len(decision.token_ids)}


def pieces_of(data: dict[str, Any]) -> dict[int, bytes]:
    """What every id spells."""
    texts = {int(i): text.encode() for i, text in data["pieces"].items()}
    return texts | {int(i): bytes.fromhex(text) for i, text in data["byte_pieces"].items()}


def make(data: dict[str, Any]) -> str:
    """The file's text: ``data``'s hand-written cases, then the generated ones."""
    kept = [case for case in data["cases"] if not case["name"].startswith(GENERATED)]
    low = {int(i): text for i, text in data["pieces"].items() if int(i) < FIRST_TEXT}
    texts = low | {token: text for text, token in ID_OF.items()}
    raw = {int(i): text for i, text in data["byte_pieces"].items() if int(i) < FIRST_TEXT}
    raw |= {FIRST_RAW + index: text for index, text in enumerate(RAW)}
    raw |= {FIRST_BYTE + byte: f"{byte:02x}" for byte in range(256)}
    routing = data["routing"]
    data = {"about": ABOUT, "routing": routing, "pieces": texts, "byte_pieces": raw}
    pieces = pieces_of(data)
    whole: dict[bytes, list[int]] = {}
    for i, piece in pieces.items():
        if piece and i != MARKER and i < FIRST_BYTE:  # of thoughts none: they have their own cases
            whole.setdefault(piece, []).append(i)
    random_ = random.Random(20240)
    makers = [written(), sequences_of_markers(random_), other_markers(random_), other_answers(random_)]
    for made in [*makers, broken_text(random_), soups(random_, whole), thoughts(random_)]:
        for name, ids, overrides in made:
            case = {"name": GENERATED + name, "token_ids": ids, **overrides}
            seen = observe(routing_of(routing, case), pieces, ids)
            said = Oracle(routing_of(routing, case), pieces).decide(ids)
            if SURROGATE.search(b"".join(pieces.get(i, b"") for i in ids)):
                seen.pop("streamed"), said.pop("streamed")
            if seen != said:
                raise SystemExit(f"decoder and oracle differ: {case}. {seen} against {said}. Find out who is wrong.")
            kept.append(case | seen)
    head = json.dumps(data, indent=1, ensure_ascii=True)[:-2]
    lines = ",\n  ".join(json.dumps(case) for case in kept)
    return f'{head},\n "cases": [\n  {lines}\n ]\n}}\n'


if __name__ == "__main__":
    CASES.write_text(make(json.loads(CASES.read_text())))
