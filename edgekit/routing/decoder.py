"""The routing-token decoder: tokens in, visible text and one decision out.

It works token by token and needs no framework; Kotlin and Swift port it line for line.

A call for the cloud is one of ``marker.token_ids``, generated whole, with nothing but white space
before it on its line and not inside an answer. The same text spelled with other tokens, quoted in
the middle of a line, or cut off by the length limit is not a call. The marker's text is never shown.

The answer is what stands between the first answer delimiters outside a thought. Within <think> and </think>, and after
a <think> that nothing closes, the answer's delimiters are text like any other: a policy may speak of them. The marker
is a call there too, so that a policy need not think to the end before it asks.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import Literal

from edgekit.routing.spec import THOUGHT_CLOSE, THOUGHT_OPEN, RoutingSpec
from edgekit.routing.vocabulary import Vocabulary

Route = Literal["local", "cloud"]
Passage = Literal["text", "thought", "answer"]


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
    _passage: Passage = "text"
    _read: str = ""
    _answer: str | None = None
    _line_is_blank: bool = True
    _line_starts: list[bool] = field(default_factory=list)
    _shown: list[str] = field(default_factory=list)
    _tail: str = ""
    _held: str = ""

    def __post_init__(self) -> None:
        answer = self.spec.answer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        # From each passage: the delimiters that end it, and where they lead.
        self._ends: dict[Passage, tuple[tuple[str, Passage], ...]] = {
            "text": ((answer.open, "answer"), (THOUGHT_OPEN, "thought")),
            "thought": ((THOUGHT_CLOSE, "text"),),
            "answer": ((answer.close, "text"),),
        }
        self._longest_mark = max(len(mark) for ends in self._ends.values() for mark, _ in ends)
        if self.spec.begins_in_thought:
            self._passage = "thought"

    @property
    def done(self) -> bool:
        """True once a stop token, the marker or a closed answer has ended the response."""
        return self.reason is not None

    @property
    def marker_counts(self) -> bool:
        """Whether a marker beginning with the next token is a call: at a line's start, outside an answer.

        Half a character is already text.
        """
        return self._line_is_blank and self._passage != "answer" and not self._utf8.getstate()[0]

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
        return self._show(fresh[: self._follow(fresh)], final=self.done)

    def finish(self) -> Decision:
        """The decision; call once the stream has ended, by itself or by the length limit.

        Text held back because the limit cut it off where the marker may have begun is not shown.
        """
        if not self.done:
            self._show(self._utf8.decode(b"", final=True), final=False)
        if self.reason == "marker":
            route: Route = "cloud"
            reason = "marker"
        elif self._answer is not None:
            route, reason = "local", "answer"
        else:
            route, reason = self.spec.on_no_answer, "no_answer"
        return Decision(route, reason, "".join(self._shown), self._answer, tuple(self.token_ids))

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
            if start >= 0 and self._line_starts[start] and tuple(self.token_ids[start:]) == marker:
                return True
        return False

    def _follow(self, fresh: str) -> int:
        """Read ``fresh`` up to the answer's end, if it holds that, else all of it; returns how many characters."""
        for count, character in enumerate(fresh, start=1):
            self._line_is_blank = character == "\n" or (self._line_is_blank and character.isspace())
            self._read += character
            ended = [(mark, to) for mark, to in self._ends[self._passage] if self._read.endswith(mark)]
            if not ended:
                continue
            mark, following = ended[0]
            if self._passage == "answer":
                self._answer = self._without_marker(self._read[: -len(mark)]).strip()
                self.reason = "answer"
                return count
            self._passage, self._read = following, ""
        if self._passage != "answer":
            self._read = self._read[-self._longest_mark :]
        return len(fresh)

    def _without_marker(self, text: str) -> str:
        while self.spec.marker.text in text:
            text = text.replace(self.spec.marker.text, "")
        return text

    def _show(self, fresh: str, *, final: bool) -> str:
        """Add ``fresh`` to what is shown, holding back a tail that may become the marker's text.

        A marker's text is dropped once whole. ``final`` shows the tail: nothing can complete it.
        """
        marker, safe = self.spec.marker.text, ""
        if not self._held and marker[0] not in self._tail and marker[0] not in fresh:
            safe, self._tail, fresh = fresh, (self._tail + fresh)[-len(marker) :], ""
        for character in fresh:
            self._held += character
            end = (self._tail + self._held)[-len(marker) :]
            if end == marker:
                self._held = self._held[: max(0, len(self._held) - len(marker))]
                end = (self._tail + self._held)[-len(marker) :]
            cut = len(self._held) - min(self._marker_tail(end), len(self._held))
            safe += self._held[:cut]
            self._tail = (self._tail + self._held[:cut])[-len(marker) :]
            self._held = self._held[cut:]
        if final:
            safe, self._held = safe + self._held, ""
        self._shown.append(safe)
        return safe

    def _marker_tail(self, text: str) -> int:
        """Length of the longest end of ``text`` that begins the marker's text without completing it."""
        marker = self.spec.marker.text
        start = text.find(marker[0])
        while start >= 0:
            if len(text) - start < len(marker) and marker.startswith(text[start:]):
                return len(text) - start
            start = text.find(marker[0], start + 1)
        return 0
