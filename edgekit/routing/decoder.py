"""The routing-token decoder: tokens in, visible text and one decision out.

It works token by token and needs no framework; Kotlin and Swift port it line for line.

A call for the cloud is one of ``marker.token_ids``, generated whole, with nothing but white space
before it on its line and not inside an answer. The same text spelled with other tokens, quoted in
the middle of a line, or cut off by the length limit is not a call. The marker's text is never shown.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import Literal

from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary

Route = Literal["local", "cloud"]


@dataclass(frozen=True)
class Decision:
    """What the policy did with one prompt.

    ``margins``: (position in ``token_ids``, the marker's margin there without any bias) for each step at which it was
    decided whether to call. ``marker_margin``: the largest of them, the bias that it decided with included; above 0 it
    called, and near 0 it hesitated.
    """

    route: Route
    reason: str
    text: str
    answer: str | None
    token_ids: tuple[int, ...]
    marker_margin: float = float("-inf")
    prompt_tokens: int = 0
    margins: tuple[tuple[int, float], ...] = ()

    @property
    def called(self) -> bool:
        """True if the prompt goes to the cloud."""
        return self.route == "cloud"


@dataclass
class RoutingDecoder:
    """Feeds on generated token ids; ``push`` returns the newly visible text."""

    spec: RoutingSpec
    vocabulary: Vocabulary
    token_ids: list[int] = field(default_factory=list)
    reason: str | None = None
    _shown: str = ""
    _held: str = ""
    _text: str = ""
    _line_starts: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def done(self) -> bool:
        """True once a stop token, the marker or a closed answer has ended the response."""
        return self.reason is not None

    def push(self, token_id: int) -> str:
        """Take one generated token; returns text now safe to show. Tokens after the end are ignored."""
        if self.done:
            return ""
        self._line_starts.append(self.marker_counts)
        self.token_ids.append(token_id)
        if self._completes_marker():
            self.reason = "marker"
            self._held = ""
            return ""
        if token_id in self.spec.stop_token_ids:
            self.reason = "stop"
            return self._show(self._utf8.decode(b"", final=True), final=True)
        fresh = self._utf8.decode(self.vocabulary[token_id])
        surplus = self._close_answer(fresh)
        return self._show(fresh[: len(fresh) - surplus], final=self.done)

    def finish(self) -> Decision:
        """The decision; call once the stream has ended, by itself or by the length limit.

        Text held back because the limit cut it off where the marker may have begun is not shown.
        """
        if not self.done:
            self._show(self._utf8.decode(b"", final=True), final=False)
        answer = self._answer() if self.reason != "marker" else None
        if self.reason == "marker":
            route: Route = "cloud"
            reason = "marker"
        elif answer is not None:
            route, reason = "local", "answer"
        else:
            route, reason = self.spec.on_no_answer, "no_answer"
        return Decision(route, reason, self._shown, answer, tuple(self.token_ids))

    def open_markers(self, room: int) -> dict[int, tuple[int, ...]]:
        """How a marker could go on: the ids that may come next -> the shortest rest of a marker after each.

        A marker may begin where it counts, and goes on where the last tokens are its beginning. One that does not fit
        in the ``room`` tokens left is none.
        """
        found: dict[int, tuple[int, ...]] = {}
        counts, written = self.marker_counts, len(self.token_ids)
        for marker in self.spec.marker.token_ids:
            for begun in range(min(len(marker) - 1, written) + 1):
                start = written - begun
                if len(marker) - begun > room or not (counts if begun == 0 else self._line_starts[start]):
                    continue
                following, rest = marker[begun], marker[begun + 1 :]
                if tuple(self.token_ids[start:]) == marker[:begun] and len(rest) <= len(found.get(following, rest)):
                    found[following] = rest
        return found

    def _completes_marker(self) -> bool:
        for marker in self.spec.marker.token_ids:
            start = len(self.token_ids) - len(marker)
            if start >= 0 and tuple(self.token_ids[start:]) == marker and self._line_starts[start]:
                return True
        return False

    @property
    def marker_counts(self) -> bool:
        """Whether a marker beginning with the next token is a call: at a line's start, outside an answer.

        Half a character is already text.
        """
        inside = self._text.rfind(self.spec.answer.open) > self._text.rfind(self.spec.answer.close)
        half_character = bool(self._utf8.getstate()[0])
        return not inside and not half_character and not self._text.rpartition("\n")[2].strip()

    def _close_answer(self, fresh: str) -> int:
        """Append ``fresh``; if it closes the answer, end there and return how many characters came after."""
        self._text += fresh
        answer = self.spec.answer
        opened = self._text.find(answer.open)
        closed = self._text.find(answer.close, opened + len(answer.open)) if opened >= 0 else -1
        if closed < 0:
            return 0
        self.reason = "answer"
        surplus = len(self._text) - (closed + len(answer.close))
        self._text = self._text[: len(self._text) - surplus]
        return surplus

    def _answer(self) -> str | None:
        _, opened, rest = self._text.partition(self.spec.answer.open)
        inside, closed, _ = rest.partition(self.spec.answer.close)
        while self.spec.marker.text in inside:
            inside = inside.replace(self.spec.marker.text, "")
        return inside.strip() if opened and closed else None

    def _show(self, fresh: str, *, final: bool) -> str:
        """Add ``fresh`` to what is shown, holding back a tail that may become the marker's text.

        A marker's text is dropped once whole. ``final`` shows the tail: nothing can complete it.
        """
        marker, before = self.spec.marker.text, len(self._shown)
        for character in fresh:
            self._held += character
            whole = self._shown + self._held
            if whole.endswith(marker):
                self._held = self._held[: max(0, len(self._held) - len(marker))]
                whole = self._shown + self._held
            tail = min(self._marker_tail(whole[-len(marker) :]), len(self._held))
            self._shown += self._held[: len(self._held) - tail]
            self._held = self._held[len(self._held) - tail :]
        if final:
            self._shown, self._held = self._shown + self._held, ""
        return self._shown[before:]

    def _marker_tail(self, text: str) -> int:
        """Length of the longest end of ``text`` that begins the marker's text without completing it."""
        marker = self.spec.marker.text
        start = text.find(marker[0])
        while start >= 0:
            if len(text) - start < len(marker) and marker.startswith(text[start:]):
                return len(text) - start
            start = text.find(marker[0], start + 1)
        return 0
