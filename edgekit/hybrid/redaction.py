"""What must not leave the device is replaced before anything does, and put back into the reply.

Who recognizes what: ``phonenumbers`` phone numbers, ``python-stdnum`` card numbers (Luhn) and IBANs (check digits),
``email-validator`` e-mail addresses, ``detect-secrets`` keys and tokens; names come from a list of the user's. Own code
only cuts the text into candidates and keeps the books.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.errors import BackendMissing, EdgekitError, install_hint
from edgekit.plain_file import read_text

Span = tuple[int, int, str]
"""(start, end, kind) of something to replace."""

MIN_NAME = 2
MOST_PLACEHOLDERS = 100_000
_PLACEHOLDER = re.compile(r"\[(?:[A-Z]+-)?[0-9]+\]")
_PART_OF_PLACEHOLDER = re.compile(r"\[?[a-z]*-?[0-9]{0,6}\]?")
WINDOW, OVERLAP = 4_000, 1_000
"""Characters in which keys are looked for at once, some of whose patterns take time that grows with a text's square."""
_IN_MAIL = r"\s<>()\[\],;:\"'`|/\\"
_MAIL = re.compile(rf"(?<![^{_IN_MAIL}])[^{_IN_MAIL}]+@[^{_IN_MAIL}@]+")  # from a word's begin: each is read once
_DIGIT_RUN = re.compile(r"(?<![\w])\d(?:[ -]?\d){11,18}(?![\w])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,4})?(?![A-Za-z0-9])")
_KEY_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_KEY_BLOCK_END = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")
_WORD = re.compile(r"[A-Za-z0-9_+/=.~-]{20,}")
_WORD_REST = re.compile(r"[A-Za-z0-9_+/=.~-]*")
RANDOM_BITS = 4.3
"""Bits a character from which on a long word is taken for a key; English words and numbers have fewer."""


@dataclass(frozen=True)
class Redaction:
    """``text`` as it may leave; ``originals`` says what stands behind each placeholder in it."""

    text: str
    originals: dict[str, str] = field(default_factory=dict)

    def restore(self, reply: str) -> str:
        """``reply`` with the originals put back. ``restore(text)`` is what the user wrote."""
        if not self.originals:
            return reply
        return _PLACEHOLDER.sub(lambda match: self.originals.get(match[0], match[0]), reply)

    def restorer(self) -> Restorer:
        """The same for a reply that comes in pieces."""
        return Restorer(self)


class Restorer:
    """Puts originals back while text streams: an end that may begin a placeholder is held until more comes."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction, self._held = redaction, ""

    def push(self, piece: str) -> str:
        """Text that is now safe to show."""
        whole = self._held + piece
        begin = whole.rfind("[")
        tail = whole[begin:] if begin >= 0 else ""
        unfinished = (
            any(len(tail) < len(p) and p.startswith(tail) for p in self._redaction.originals) if tail else False
        )
        self._held = tail if unfinished else ""
        return self._redaction.restore(whole[: len(whole) - len(self._held)])

    def finish(self) -> str:
        """What was held at the end of the stream."""
        rest, self._held = self._held, ""
        return rest


class Redactor:
    """Finds what must stay: e-mail addresses, phone and card numbers, IBANs, keys and tokens, listed names.

    ``region``: the country (``DE``, ``US``) whose national phone numbers are known; None: only international ones.
    Raises :class:`BackendMissing` without its libraries, :class:`EdgekitError` for an unknown region or a name of
    one letter.
    """

    def __init__(self, names: Iterable[str] = (), region: str | None = None) -> None:
        self._names = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
        short = next((name for name in self._names if len(name) < MIN_NAME), None)
        if short is not None:
            raise EdgekitError(f"name too short: {short!r}. It would be found everywhere. Leave it out of the list.")
        self._finders: tuple[Callable[[str], Iterator[Span]], ...] = (
            _private_keys,
            _mail_addresses,
            _ibans,
            _cards,
            _secrets,
            functools.partial(_phones, region=_known_region(region)),
            functools.partial(_listed, names=self._names),
        )

    def redact(self, text: str) -> Redaction:
        """``text`` with placeholders for all that was found; equal values share one."""
        return self.redact_all([text])[0]

    def redact_all(self, texts: Sequence[str]) -> list[Redaction]:
        """The same for the messages of one conversation: a value has one placeholder in all of them."""
        kinds: dict[str, str] = {}
        for text in texts:
            for start, end, kind in self._spans(text):
                kinds.setdefault(text[start:end], kind)
        placeholders = _placeholders(kinds, "\n".join(texts))
        originals = {placeholder: value for value, placeholder in placeholders.items()}
        return [Redaction(_replaced(text, placeholders), originals) for text in texts]

    def _spans(self, text: str) -> list[Span]:
        """Non-overlapping spans: those that overlap are one, all of it hidden, of the kind whose finder comes first."""
        found = [
            (start, end, place, kind)
            for place, finder in enumerate(self._finders)
            for start, end, kind in finder(text)
            if start < end
        ]
        merged: list[tuple[int, int, int, str]] = []
        for span in sorted(found):
            if merged and span[0] < merged[-1][1]:
                before = merged.pop()
                merged.append((before[0], max(before[1], span[1]), *min(before[2:], span[2:])))
            else:
                merged.append(span)
        return [(start, end, kind) for start, end, _, kind in merged]


def read_names(path: Path) -> list[str]:
    """Names, one a line; lines that begin with # are skipped. Raises :class:`EdgekitError` if it cannot be read."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise EdgekitError(f"cannot read names: {path}. {error}. Give a text file, one name a line.") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _placeholders(kinds: dict[str, str], text: str) -> dict[str, str]:
    """``[KIND-n]`` for each value, or ``[n]`` where a value stands in the word; none stands in ``text`` already.

    Raises :class:`EdgekitError` where the listed names leave none.
    """
    forbidden = {folded for value in kinds if _PART_OF_PLACEHOLDER.fullmatch(folded := value.casefold())}
    taken = set(_PLACEHOLDER.findall(text))
    chosen: dict[str, str] = {}
    number = 0
    for value, kind in kinds.items():
        while value not in chosen:
            number += 1
            if number > MOST_PLACEHOLDERS:
                why = "Every placeholder holds one of the listed names, or stands in the text"
                raise EdgekitError(f"cannot redact: {kind}. {why}. Shorten the list of names.")
            for candidate in (f"[{kind}-{number}]", f"[{number}]"):
                if candidate not in taken and not any(each in candidate.casefold() for each in forbidden):
                    chosen[value] = candidate
                    break
    return chosen


def _replaced(text: str, placeholders: dict[str, str]) -> str:
    """``text`` with the placeholder of each value wherever it stands; the longest first of those that begin alike.

    A value may stand once more inside another word, where no finder sees it.
    """
    if not placeholders:
        return text
    width = min(map(len, placeholders))
    lengths: dict[str, set[int]] = {}
    for value in placeholders:
        lengths.setdefault(value[:width], set()).add(len(value))
    ordered = {begin: sorted(each, reverse=True) for begin, each in lengths.items()}
    parts, done, at = [], 0, 0
    while at < len(text):
        values = (text[at : at + length] for length in ordered.get(text[at : at + width], ()))
        found = next((each for each in values if each in placeholders), None)
        if found is None:
            at += 1
            continue
        parts += [text[done:at], placeholders[found]]
        done = at = at + len(found)
    return "".join([*parts, text[done:]])


def _private_keys(text: str) -> Iterator[Span]:
    begin = _KEY_BLOCK.search(text)
    while begin is not None:
        found = _KEY_BLOCK_END.search(text, begin.end())
        end = found.end() if found else len(text)
        yield begin.start(), end, "KEY"
        begin = _KEY_BLOCK.search(text, end)


def _mail_addresses(text: str) -> Iterator[Span]:
    from email_validator import EmailNotValidError, validate_email

    for match in _MAIL.finditer(text):
        address = match[0].rstrip(".!?")
        try:
            validate_email(address, check_deliverability=False, test_environment=True, allow_quoted_local=True)
        except EmailNotValidError:
            continue
        yield match.start(), match.start() + len(address), "EMAIL"


def _ibans(text: str) -> Iterator[Span]:
    from stdnum import iban

    for match in _IBAN.finditer(text):
        # The next word may have been taken along: shorten until the check digits fit.
        for end in range(match.end(), match.start() + 15, -1):
            if iban.is_valid(text[match.start() : end]) and (end == len(text) or not text[end].isalnum()):
                yield match.start(), end, "IBAN"
                break


def _cards(text: str) -> Iterator[Span]:
    from stdnum import luhn

    for match in _DIGIT_RUN.finditer(text):
        digits = re.sub(r"[ -]", "", match[0])
        if luhn.is_valid(digits):
            yield match.start(), match.end(), "CARD"


def _secrets(text: str) -> Iterator[Span]:
    for pattern in _secret_patterns():
        last = 0
        for start, end in _matches(pattern, text):
            # Some patterns end before the key does: the rest of the word is the key's.
            rest = _WORD_REST.match(text, max(end, last))
            last = rest.end() if rest else end
            yield start, start + len(text[start:last].rstrip(".")), "KEY"
    entropy = _entropy()
    for match in _WORD.finditer(text):
        word = match[0].strip("=.")
        mixed = any(c.isdigit() for c in word) and any(c.isalpha() for c in word)
        if mixed and entropy(word) >= RANDOM_BITS:
            yield match.start(), match.end(), "KEY"


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Where ``pattern`` matches, looked for in windows that overlap; what stands in two of them is told twice."""
    for begin in range(0, max(1, len(text) - OVERLAP), WINDOW - OVERLAP):
        for match in pattern.finditer(text, begin, begin + WINDOW):
            yield match.span()


@functools.cache
def _secret_patterns() -> tuple[re.Pattern[str], ...]:
    """The patterns of the services that detect-secrets knows. Its own scan reports a pattern's first group only."""
    from detect_secrets.plugins.base import RegexBasedDetector
    from detect_secrets.plugins.keyword import KeywordDetector
    from detect_secrets.plugins.private_key import PrivateKeyDetector
    from detect_secrets.settings import default_settings

    left_out = {KeywordDetector.secret_type, PrivateKeyDetector.secret_type, "Public IPv4 address"}
    patterns: list[re.Pattern[str]] = []
    with default_settings():
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

        plugins: dict[str, Any] = get_mapping_from_secret_type_to_class()
        for kind, plugin in sorted(plugins.items()):
            if issubclass(plugin, RegexBasedDetector) and kind not in left_out:
                patterns += list(plugin().denylist)
    return tuple(patterns)


@functools.cache
def _entropy() -> Callable[[str], float]:
    from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString

    measure: Callable[[str], float] = Base64HighEntropyString().calculate_shannon_entropy
    return measure


def _phones(text: str, region: str | None) -> Iterator[Span]:
    import phonenumbers

    for match in phonenumbers.PhoneNumberMatcher(text, region):
        yield match.start, match.end, "PHONE"


def _listed(text: str, names: Sequence[str]) -> Iterator[Span]:
    for name in names:
        for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE):
            yield match.start(), match.end(), "NAME"


def _known_region(region: str | None) -> str | None:
    try:
        import detect_secrets
        import email_validator
        import phonenumbers
        import stdnum

        libraries: tuple[Any, ...] = (detect_secrets, email_validator, phonenumbers, stdnum)
    except ImportError as error:
        raise BackendMissing(f"cannot redact: {error.name} is not installed. {install_hint('serve')}.") from None
    assert libraries
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise EdgekitError(f"unknown region: {region}. It is no country's code. Give two letters, as DE or US.")
    return region
