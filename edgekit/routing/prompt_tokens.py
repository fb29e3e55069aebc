"""A prompt as token ids: what the user typed is data, and never becomes a control token.

Added tokens (control tokens, the marker, delimiters) are looked for in the template only: one that touches the user's
text is text. All else is as Hugging Face's tokenizers does it over the whole prompt, so a prompt without such texts has
the very ids that the library gives the rendered prompt. Kotlin and Swift port this, under prompt_cases.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import PreTokenizedString, Tokenizer

from edgekit.errors import BundleError, EdgekitError, ErrorKind
from edgekit.plain_file import TOKENIZER_BYTES, read_text
from edgekit.routing.added_tokens import AddedTokens
from edgekit.routing.tokenizer_bounds import added_fault, growth_fault


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in ``path``, which neither cuts nor pads. Raises :class:`BundleError`."""
    try:
        tokenizer = tokenizer_of(read_text(path, TOKENIZER_BYTES))
    except FileNotFoundError:
        raise BundleError(f"no tokenizer: {path}. There is no such file. Check the path.", ErrorKind.ABSENT) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"unreadable tokenizer: {path}. {error}. Export the bundle again.") from None
    if fault := growth_fault(tokenizer) or added_fault(tokenizer):
        why = f"{fault[0].upper()}{fault[1:]}. Take another model's"
        raise BundleError(f"unusable tokenizer: {path}. {why}.", ErrorKind.UNSUPPORTED)
    return tokenizer


def tokenizer_of(text: str) -> Tokenizer:
    """The same of a tokenizer.json's text. Raises ValueError."""
    try:
        tokenizer = Tokenizer.from_str(text)
    except BaseException as error:  # tokenizers raises bare Exception, and a panic of its own is none
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ValueError(" ".join(str(error).split())) from None
    # What its maker set for batches; transformers drops both on reading.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@dataclass(frozen=True)
class Part:
    """A stretch of a prompt: the template's own words, or the user's."""

    text: str
    is_user: bool


class PromptTokenizer:
    """Encodes prompts with ``tokenizer``, whose added tokens are read once, here."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._special = {token_id for token_id, token in added.items() if token.special}
        self._ids = {token.content: token_id for token_id, token in added.items()}
        self._added = AddedTokens({each.content: (i, each) for i, each in added.items() if not each.normalized})
        self._normalized = AddedTokens(
            {self._normalize(each.content): (i, each) for i, each in added.items() if each.normalized}
        )

    def encode(self, parts: Sequence[Part], delimiters: Sequence[str] = ()) -> list[int]:
        """The ids of the text that ``parts`` make together; nothing is put around it.

        A stretch with user text holds no special token, and none of ``delimiters`` (texts of added tokens): should the
        model itself merge one, its characters' tokens stand instead. Raises :class:`EdgekitError` for what is no text,
        such as half of a surrogate pair.
        """
        text = "".join(part.text for part in parts)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            why = f"Character {error.start} is no character: {error.reason}"
            raise EdgekitError(f"bad prompt: {text[:20]!r}. {why}. Leave it out.") from None
        forbidden = self._special | {self._ids[each] for each in delimiters if each in self._ids}
        ids: list[int] = []
        for found in self._added.split(text, _spans(parts, is_user=False)):
            ids += [found] if isinstance(found, int) else self._stretch(text, found, parts, forbidden)
        return ids

    def _stretch(self, text: str, span: range, parts: Sequence[Part], forbidden: set[int]) -> Iterator[int]:
        """The ids of ``text`` within ``span``, where no added token is but those of normalized text."""
        users = [each for each in _spans(parts, is_user=True) if each.start < span.stop and span.start < each.stop]
        for found in self._normalized_parts(text, span, users):
            if isinstance(found, int):
                yield found
            else:
                yield from self._spelled(self._pieces(text, span, found), forbidden if users else set())

    def _normalized_parts(self, text: str, span: range, users: Sequence[range]) -> Iterator[int | range | None]:
        """The added tokens of the normalized stretch, and the ranges of it between them; None for all of it."""
        if not self._normalized:
            yield None
            return
        normalized = self._normalize(text[span.start : span.stop])
        within = [range(len(normalized))]
        if users:  # what begins and ends like the template's own words, normalized alone
            head = self._normalize(text[span.start : max(users[0].start, span.start)])
            tail = self._normalize(text[min(users[-1].stop, span.stop) : span.stop])
            before = _shared_length(head, normalized)
            after = _shared_length(tail[::-1], normalized[before:][::-1])
            within = [range(before), range(len(normalized) - after, len(normalized))]
        yield from self._normalized.split(normalized, within)

    def _normalize(self, text: str) -> str:
        normalizer = self._tokenizer.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    def _pieces(self, text: str, span: range, inside: range | None) -> Iterator[int]:
        """The model's ids of ``text`` within ``span``, and of that, normalized, what is ``inside``.

        The library is told the whole text, since what some tokenizers do depends on where in it a stretch begins.
        """
        pieces = PreTokenizedString(text)
        pieces.split(lambda _, whole: [whole[span.start : span.stop]])
        if self._tokenizer.normalizer is not None:
            pieces.normalize(self._tokenizer.normalizer.normalize)
        if inside is not None:
            pieces.split(lambda _, stretch: [stretch[inside.start : inside.stop]])
        if self._tokenizer.pre_tokenizer is not None:
            self._tokenizer.pre_tokenizer.pre_tokenize(pieces)
        for piece, _, _ in pieces.get_splits("normalized"):
            yield from (token.id for token in self._tokenizer.model.tokenize(piece))

    def _spelled(self, ids: Iterator[int], forbidden: set[int]) -> Iterator[int]:
        """``ids``, the forbidden ones among them by their characters."""
        model = self._tokenizer.model
        for token_id in ids:
            spelling = model.id_to_token(token_id) if token_id in forbidden else ""
            if len(spelling) > 1:
                yield from (token.id for character in spelling for token in model.tokenize(character))
            else:
                yield token_id


def _shared_length(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def _spans(parts: Sequence[Part], *, is_user: bool) -> list[range]:
    """Where in the whole text the user's parts lie, or the template's; parts that touch are one."""
    spans: list[range] = []
    at = 0
    for part in parts:
        end = at + len(part.text)
        if part.is_user == is_user and part.text:
            if spans and spans[-1].stop == at:
                spans[-1] = range(spans[-1].start, end)
            else:
                spans.append(range(at, end))
        at = end
    return spans
