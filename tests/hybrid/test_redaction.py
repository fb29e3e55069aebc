"""What is replaced never leaves, and comes back whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import EdgekitError
from edgekit.hybrid.redaction import Redactor

NAMES = ("Ada Lovelace", "Grace", "Müller")
REDACTOR = Redactor(NAMES, region="US")
SECRETS = {
    "mail": "ada.lovelace+notes@example.co.uk",
    "phone": "+49 30 901820",
    "national phone": "(650) 253-0000",
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "bare iban": "GB82WEST12345698765432",
    "cloud key": "AKIAIOSFODNN7EXAMPLE",
    "hub token": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "random key": "sk-proj-Zx81kQp0LmN4vTyRw29BcDfGh",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----",
    "name": "Ada Lovelace",
    "name in other letters": "MÜLLER",
}


@pytest.mark.parametrize("kind", sorted(SECRETS))
def test_each_kind_is_replaced_whole_and_put_back(kind: str) -> None:
    text = f"Please tell {SECRETS[kind]}, that 3 5 7 -> 22 is done."
    redacted = REDACTOR.redact(text)
    assert SECRETS[kind] not in redacted.text
    assert redacted.text.startswith("Please tell [")
    assert redacted.text.endswith("], that 3 5 7 -> 22 is done.")
    assert redacted.restore(redacted.text) == text


@pytest.mark.parametrize(
    "text",
    [
        "3 5 7 -> 22",
        "12 30 -> 42",
        "What is 4111 times 1111?",
        "A train leaves at 10:15 and arrives at 12:40; 3.14159 and 2,718,281.",
        "The word internationalization has twenty letters",
        "def f(x): return x**2 + 2*x + 1",
        "Gracefully done",
    ],
)
def test_an_ordinary_prompt_is_left_as_it_is(text: str) -> None:
    assert REDACTOR.redact(text).text == text


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PIECES = st.lists(st.one_of(WORDS, st.sampled_from(sorted(SECRETS.values()))), max_size=8)


@settings(max_examples=300, deadline=None)
@given(PIECES, st.sampled_from([" ", "\n", ", ", "", "x", "[EMAIL-1]", "-"]))
def test_what_is_replaced_never_stands_in_the_bytes_and_the_text_comes_back(pieces: list[str], between: str) -> None:
    text = between.join(pieces)
    redacted = REDACTOR.redact(text)
    sent = json.dumps({"messages": [{"role": "user", "content": redacted.text}]}, ensure_ascii=False).encode()
    for value in redacted.originals.values():
        assert value not in redacted.text
        assert json.dumps(value, ensure_ascii=False)[1:-1].encode() not in sent
    assert redacted.restore(redacted.text) == text


@settings(max_examples=150, deadline=None)
@given(PIECES, st.lists(st.integers(1, 7), min_size=1, max_size=40))
def test_a_reply_that_streams_is_restored_as_one_that_comes_whole(pieces: list[str], cuts: list[int]) -> None:
    redacted = REDACTOR.redact(" ".join(pieces))
    reply, restorer, shown, at = f"[NAM {redacted.text} [", redacted.restorer(), "", 0
    for index in range(len(reply)):
        size = cuts[index % len(cuts)]
        if at >= len(reply):
            break
        shown += restorer.push(reply[at : at + size])
        at += size
    assert shown + restorer.finish() == redacted.restore(reply)


def test_equal_values_share_a_placeholder_over_a_whole_conversation() -> None:
    first, second = REDACTOR.redact_all(["mail ada@example.org", "did ada@example.org or bob@example.org answer?"])
    assert first.text == "mail [EMAIL-1]"
    assert second.text == "did [EMAIL-1] or [EMAIL-2] answer?"


@pytest.mark.parametrize(
    ("names", "text", "left"),
    [
        (["Ann", "Ann Smith"], "Please write to Ann Smith today.", "Please write to [NAME-1] today."),
        (["Ann Smith", "Smith Ltd"], "Ann Smith Ltd owes me", "[NAME-1] owes me"),
        (["Smith Ltd", "Ann Smith"], "Ann Smith Ltd owes me", "[NAME-1] owes me"),
        (["Mail me", "Example"], "Mail me at ada@example.org", "[NAME-1] at [EMAIL-2]"),
        (["example.org road"], "ada@example.org road 3", "[EMAIL-1] 3"),
    ],
)
def test_names_that_overlap_are_hidden_whole(names: list[str], text: str, left: str) -> None:
    redacted = Redactor(names).redact(text)
    assert redacted.text == left
    assert redacted.restore(redacted.text) == text


def test_a_name_like_the_placeholder_s_word_cannot_stand_in_it() -> None:
    redacted = Redactor(["email", "name"]).redact("the email of name is ada@example.org")
    assert "email" not in redacted.text.lower()
    assert "name" not in redacted.text.lower()
    assert redacted.restore(redacted.text) == "the email of name is ada@example.org"


def test_a_name_of_one_letter_and_an_unknown_region_are_refused() -> None:
    with pytest.raises(EdgekitError, match="too short"):
        Redactor(["A"])
    with pytest.raises(EdgekitError, match="unknown region"):
        Redactor(region="Germany")


def test_names_that_leave_no_placeholder_are_told_instead_of_a_search_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgekit.hybrid.redaction.MOST_PLACEHOLDERS", 200)
    names = ["name", *(f"[{digit}" for digit in "123456789")]
    with pytest.raises(EdgekitError, match="cannot redact: NAME"):
        Redactor(names).redact("My name: " + " ".join(names))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "://" * 20_000,
        "-----BEGIN PRIVATE KEY-----" * 20_000,
        "".join(f"user{number}@example{number % 7}.com, " for number in range(9_000)),
    ],
    ids=["a long word", "addresses without an end", "keys without an end", "a long list of addresses"],
)
def test_a_long_text_is_redacted_and_is_no_search_without_end(text: str) -> None:
    redacted = REDACTOR.redact(text)
    assert "@" not in redacted.text
    assert redacted.restore(redacted.text) == text


def test_a_key_is_found_wherever_it_stands_in_a_long_word() -> None:
    key = "AKIA" + "ABCDEFGHIJKLMNOP"
    for before in (2_990, 3_980, 3_999, 4_000, 12_345):
        assert key not in REDACTOR.redact("\u4e00" * before + key + "\u4e00" * 5_000).text
