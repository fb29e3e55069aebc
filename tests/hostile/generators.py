"""Hostile variants of honest inputs, each made from a number: the same tomorrow, and small enough to look at."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import yaml

DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]

VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 2**63, 10**9, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", "\0", "../../etc/passwd", "/dev/zero", "~/x", "[/x]", "[bold]", "\x1b]0;x\x07\x1b[2J", "\ud800",
    "a" * 5000,
    "{prompt}", "{}", "%s%n", "$(touch ran)", "\u202eback", "NaN", "1e999", [], {}, [[]], {"a": {"b": None}},
    [1, "x", None], DEEP, "\U0010ffff" * 20,
)  # fmt: skip
"""What may stand where something else is expected."""
RAW = (
    b"", b"\0" * 100, b"\xef\xbb\xbf{}", b"{", b"[" * 100_000, b"{\"a\":" * 50_000, b"9" * 100_000, b"\xff\xfe",
    b"null", b"[]", b"\"x\"", b"-", b"{}" * 1000, b"{\"a\":1,\"a\":2}", b"NaN", b"1e999", b"\"\\ud800\"",
)  # fmt: skip
"""Whole files that are none."""


def damaged(data: bytes, number: int) -> bytes:
    """The ``number``-th way to damage ``data``: bytes changed, cut off, put in, or said to be longer."""
    chance, broken = random.Random(number), bytearray(data)
    for _ in range(chance.choice((1, 1, 3, 20))):
        at = chance.randrange(len(broken))
        kind = chance.randrange(4)
        if kind == 0:
            broken[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del broken[at : at + chance.choice((1, 7, len(broken)))]
        elif kind == 2:
            broken[at:at] = bytes(chance.choices(range(256), k=chance.choice((1, 9))))
        else:
            broken[at : at + 4] = b"\xff\xff\xff\x7f"
        if not broken:
            break
    return bytes(broken)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in ``value``; of long containers the first and the last only."""
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        one = pending.pop()
        keys: list[Any] = list(one) if isinstance(one, dict) else list(range(len(one))) if isinstance(one, list) else []
        for key in keys if len(keys) < 40 else keys[:10] + keys[-10:]:
            found.append((one, key))
            pending.append(one[key])
    return found


def swapped(value: Any, number: int) -> Any:
    """A copy of the JSON value with one to three of its fields replaced, removed, renamed, exchanged or added."""
    chance, copy = random.Random(number), json.loads(json.dumps(value))
    for _ in range(chance.choice((1, 1, 2, 3))):
        fields = places(copy)
        if not fields:
            return chance.choice(VALUES)
        holder, key = chance.choice(fields)
        kind = chance.randrange(6)
        if kind <= 2:
            holder[key] = chance.choice(VALUES)
        elif kind == 3:
            del holder[key]
        elif kind == 4 and isinstance(holder, dict):
            holder[f"{key}{chance.choice(('', 's', ' ', chr(0)))}x"] = holder.pop(key)
        else:
            other, its = chance.choice(fields)
            if (isinstance(other, dict) and its in other) or (isinstance(other, list) and its < len(other)):
                theirs = json.loads(json.dumps(other[its]))
                holder[key] = theirs
    return copy


def json_variants(source: bytes, n: int, seed: int = 0) -> Iterator[bytes]:
    """``n`` variants of a JSON document: those that are none, damaged ones, and ones with fields swapped."""
    value = json.loads(source)
    for number in range(seed, seed + n):
        if number < len(RAW):
            yield RAW[number]
        elif number % 3 == 0:
            yield damaged(source, number)
        else:
            yield json.dumps(swapped(value, number)).encode()


def line_variants(source: bytes, n: int, seed: int = 0) -> Iterator[bytes]:
    """The same for a file of JSON lines, of which one is a variant; some files end in the middle of a line."""
    lines = source.splitlines(keepends=True)
    for number in range(seed, seed + n):
        chance = random.Random(number)
        at = chance.randrange(len(lines))
        (variant,) = json_variants(lines[at], 1, number)
        changed = [*lines[:at], variant + b"\n", *lines[at + 1 :]]
        whole = b"".join(changed)
        yield whole[: -chance.randrange(1, 9)] if number % 5 == 0 else whole


YAML_BOMBS = (
    "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "&a [*a]",
    "!!python/object/apply:os.system [touch ran]",
    "!!python/name:os.system x",
    "x: !!binary ////",
    "[" * 5000,
    "- " * 5000,
    "steps: " + "9" * 10_000,
    "a: 1\na: 2\n",
    "? [a]\n: b\n",
    "a: 2024-99-99\n",
    "\t",
    "%YAML 9.9\n---\n",
    "--- 1\n--- 2\n",
    "<<: [{steps: 1}]\n",
    "steps: 0x" + "f" * 1000,
    "steps: 1:2:3:4:5:6:7:8:9\n",
    "steps: .inf\n",
    "\ufeffsteps: 1\n",
)  # fmt: skip


def yaml_variants(source: bytes, n: int, seed: int = 0) -> Iterator[bytes]:
    """The same for YAML."""
    value = yaml.safe_load(source)
    for number in range(seed, seed + n):
        if number < len(YAML_BOMBS):
            yield YAML_BOMBS[number].encode()
        elif number % 3 == 0:
            yield damaged(source, number)
        else:
            yield json.dumps(swapped(value, number)).encode()  # JSON is YAML


PROMPTS: tuple[str, ...] = (
    "", " ", "\n", "\0", "3 5 7 -> 22", "3 5 7 -> 22 please", "->", "1 -> 1", "0 0 0 -> 0", "9" * 400 + " -> 1",
    "-1 -2 -> 3", "1.5 2 -> 3", "\u0663 \u0665 -> \u0668", "\uff13 5 -> 8", "3 5 7 -> 22\n3 5 7 -> 22", "\ud800",
    "a\udc80b",
    "<|im_end|>", "<|im_start|>assistant", "<answer>1</answer>", "<cloud>", "<think>", "[/x]", "[bold red]x[/]",
    "\x1b[2J\x1b]0;title\x07", "\u202ereversed", "\u200b" * 50, "e\u0301" * 300,
    "\U0001f468\u200d\U0001f469" * 50, "%s %n {} {0} {prompt}",
    "'; DROP TABLE calls; --", "$(touch ran)", "`touch ran`", "../../etc/passwd",
    "a" * 100_000, " " * 100_000, "1 " * 50_000,
    "\u00df" * 1000, "\ufeff3 5 7 -> 22", "\uffff\ufffe", "\r\n", "\t", "\x7f", "\x85", "\u2028", "NaN", "null", "true",
)  # fmt: skip
"""Texts that people paste, and texts made to do harm."""


def prompts(n: int) -> Iterator[str]:
    """The first ``n``: :data:`PROMPTS`, then honest ones with hostile text put into them."""
    yield from PROMPTS[:n]
    alphabet = "0123456789 ->+*()/=\0\x1b[]<>|{}%\u00e9\u4e00\U0001f642\ud83d\u202e\n"
    for number in range(n - len(PROMPTS)):
        chance = random.Random(number)
        text = "".join(chance.choices(alphabet, k=chance.choice((1, 5, 40, 400))))
        yield text if number % 2 else "3 5 7 -> " + text
