"""Writes documents.json: what comes from outside, and the verdict on it that Python, Kotlin and Swift must all give.

Usage: .venv/bin/python tests/conformance/make_documents.py. The verdicts are written here by hand, not computed: a
reader that gives another one is wrong. To add a document, add a line to its family and run this again.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit.errors import ErrorKind

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from bundle_documents import conformance, manifest, routing  # noqa: E402
from document_changes import NOT_JSON, TAKEN  # noqa: E402
from tokenizer_documents import tokenizers  # noqa: E402

DOCUMENTS = HERE / "documents.json"
ABOUT = (
    "Documents from outside, each with its verdict: taken, or refused with an error of that kind. read says which "
    "reader: json (any value; value is the same, written plainly), routing, manifest, conformance (a whole file), "
    "tokenizer, logits (a response's first), budget (a phone's cloud budget: share and window). A document is text, or "
    "base64 if no UTF-8. error_kinds are the words that all three languages know. Made by make_documents.py."
)


def json_texts() -> Iterator[tuple[str, str | bytes, str]]:
    """(name, text, verdict): what JSON is. A text is taken as what json.loads makes of it."""
    taken = {
        "white space around": " \t\r\n[ 1 , 2 ] \n",
        "every escape": r'"\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac"',
        "a surrogate pair": r'"\ud83d\ude00"',
        "a raw character outside the basic plane": '"\U0001f600"',
        "a zero byte, escaped": r'"\u0000"',
        "an escaped line separator": '"\u2028\\u2029\u007f"',
        "a noncharacter": '"\uffff"',
        "numbers": "[0, -0, 10, -7, 0.5, -0.25, 1e3, 1E+3, 1e-3, 1.0, 2.50e1]",
        "the largest whole number that a double holds": "9007199254740992",
        "a number smaller than any double": "1e-400",
        "words": "[true, false, null]",
        "64 brackets deep": "[" * 64 + "]" * 64,
        "64 brackets deep, mixed": '{"a":[' * 32 + "1" + "]}" * 32,
        "keys that differ in case or normalization only": '{"a":1,"A":2}',
        "an empty key": '{"":1}',
        "nothing inside": '[{},[],""]',
        "a text alone": '"a"',
    }
    refused = {
        "nothing": "",
        "white space only": "  \n",
        "two values": "1 2",
        "a byte order mark": "\ufeff[1]",
        "a number with a plus": "[+1]",
        "a number with a leading zero": "[01]",
        "a negative number with a leading zero": "[-01]",
        "a number that begins with its point": "[.5]",
        "a number that ends with its point": "[1.]",
        "a number without its exponent": "[1e]",
        "a number with half an exponent": "[1e+]",
        "a minus alone": "[-]",
        "a hexadecimal number": "[0x10]",
        "a number with a separator": "[1_000]",
        "a number beyond a double's range": "[1e400]",
        "400 digits": "[" + "9" * 400 + "]",
        "a number in other digits": "[\u0661]",
        "NaN": "[NaN]",
        "Infinity": "[Infinity]",
        "minus Infinity": "[-Infinity]",
        "a word in capitals": "[True]",
        "a word cut short": "[tru]",
        "a word continued": "[nullx]",
        "a comma at the end of a list": "[1,]",
        "a comma at the end of an object": '{"a":1,}',
        "a comma too many": "[1,,2]",
        "no comma": "[1 2]",
        "no colon": '{"a" 1}',
        "a key without quotes": "{a:1}",
        "single quotes": "['a']",
        "a key that is a number": "{1:2}",
        "a comment": "[1] // one",
        "an unclosed list": "[1",
        "an unclosed object": '{"a":1',
        "an unclosed text": '["a',
        "closed by the other bracket": "[1}",
        "a raw line break in a text": '["a\nb"]',
        "a raw tab in a text": '["a\tb"]',
        "a raw zero byte in a text": '["a\x00b"]',
        "an unknown escape": r'["\x41"]',
        "an escape of a new line": '["\\\n"]',
        "an escape cut short": r'["\u12"]',
        "an escape with a sign": r'["\u+041"]',
        "an escape in other digits": '["\\u\uff11\uff11\uff11\uff11"]',
        "the first half of a surrogate pair": r'["\ud83d"]',
        "the second half of a surrogate pair": r'["\ude00"]',
        "a surrogate pair the wrong way round": r'["\ude00\ud83d"]',
        "the first half of a surrogate pair before a letter": r'["\ud83dx\ude00"]',
        "half of a surrogate pair as a key": r'{"\ud83d":1}',
        "a key twice": '{"a":1,"b":2,"a":1}',
        "a key twice, once escaped": r'{"a":1,"\u0061":2}',
        "a key twice, deep inside": '[{"x":{"a":null,"a":null}}]',
        "white space of Unicode": "[1,\u00a02]",
        "a vertical tab": "[1,\x0b2]",
        "a form feed": "[1,\x0c2]",
        "65 brackets deep": "[" * 65 + "]" * 65,
        "20,000 brackets deep": "[" * 20_000,
    }
    yield from ((name, text, TAKEN) for name, text in taken.items())
    yield from ((name, text, NOT_JSON) for name, text in refused.items())
    raw = {
        "a byte that begins nothing": b'["\xff"]',
        "a character cut short": b'["\xe2\x82"]',
        "a character written too long": b'["\xc0\xaf"]',
        "a surrogate in UTF-8": b'["\xed\xa0\x80"]',
        "a character beyond Unicode": b'["\xf4\x90\x80\x80"]',
        "Latin-1": '["\u00e9"]'.encode("latin-1"),
        "UTF-16": '["a"]'.encode("utf-16"),
        "bad UTF-8 outside a text": b"[1]\xff",
    }
    yield from ((name, data, NOT_JSON) for name, data in raw.items())


def logits() -> Iterator[tuple[str, str, str]]:
    """A response's first logits, with texts for the numbers that JSON has not; the marker is token 1."""
    taken = ([0, 1, 2], [-1e30, 0, "-inf"], ["-inf", "-inf", 5], ["-inf", 0.5, "-inf"], [0, 0, 0])
    refused = (
        ["nan", 1, 2], [0, "nan", 2], [0, 1, "nan"], ["nan", "nan", "nan"], [0, "inf", 1], ["inf", 0, 1],
        ["-inf", "-inf", "-inf"], ["-inf", "nan", "-inf"], [], [0],
    )  # fmt: skip
    yield from ((json.dumps(values), json.dumps(values), TAKEN) for values in taken)
    yield from ((json.dumps(values), json.dumps(values), "bad_logits") for values in refused)


def budgets() -> Iterator[tuple[str, str, str]]:
    """[share, window] of a cloud budget: at most that share of any window prompts in a row."""
    for share, window in ((0, 1), (1, 1), (0.3, 20), (1.0, 1000000)):
        yield f"{share} of {window}", json.dumps([share, window]), TAKEN
    for share, window in ((0.3, 0), (0.3, -1), (-0.1, 20), (1.1, 20), (0, 0)):
        yield f"{share} of {window}", json.dumps([share, window]), "bad_input"


def documents() -> Iterator[dict[str, Any]]:
    """All documents, each name once a reader."""
    families = {
        "json": json_texts(), "routing": routing(), "manifest": manifest(), "conformance": conformance(),
        "budget": budgets(), "tokenizer": tokenizers(), "logits": logits(),
    }  # fmt: skip
    for read, family in families.items():
        names = set()
        for name, text, verdict in family:
            if name in names:
                raise ValueError(f"{read}: two documents are called {name}")
            names.add(name)
            document: dict[str, Any] = {"read": read, "name": name}
            if isinstance(text, bytes):
                document["base64"] = base64.b64encode(text).decode()
            else:
                document["text"] = text
            if read == "json" and verdict == TAKEN:
                document["value"] = json.dumps(json.loads(text), ensure_ascii=False)
            yield {**document, "verdict": verdict}


def make() -> str:
    """The file's text, a document a line."""
    head = json.dumps({"about": ABOUT, "error_kinds": list(ErrorKind)}, indent=1)[:-2]
    lines = [json.dumps(document) for document in documents()]
    return head + ',\n "documents": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


if __name__ == "__main__":
    DOCUMENTS.write_text(make())
