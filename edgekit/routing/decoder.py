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

    ``marker_margin`` is the largest value, over the steps decoded, of the marker's first logit
    (bias included) minus the best other logit: at or above 0 it called, and near 0 it hesitated.
    """

    route: Route
    reason: str
    text: str
    answer: str | None
    token_ids: tuple[int, ...]
    marker_margin: float = float("-inf")
    prompt_tokens: int = 0

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
        self._line_starts.append(self._at_line_start())
        self.token_ids.append(token_id)
        if self._completes_marker():
            self.reason = "marker"
        elif token_id in self.spec.stop_token_ids:
            self.reason = "stop"
        else:
            self._text += self._utf8.decode(self.vocabulary[token_id])
            if self._answer() is not None:
                self.reason = "answer"
        return self._release(final=self.done)

    def finish(self) -> Decision:
        """The decision; call once the stream has ended, by itself or by the length limit."""
        if self.reason != "marker":
            self._text += self._utf8.decode(b"", final=True)
        self._release(final=True)
        answer = self._answer() if self.reason != "marker" else None
        if self.reason == "marker":
            route: Route = "cloud"
            reason = "marker"
        elif answer is not None:
            route, reason = "local", "answer"
        else:
            route, reason = self.spec.on_no_answer, "no_answer"
        return Decision(route, reason, self._shown, answer, tuple(self.token_ids))

    def _completes_marker(self) -> bool:
        for marker in self.spec.marker.token_ids:
            start = len(self.token_ids) - len(marker)
            if start >= 0 and tuple(self.token_ids[start:]) == marker and self._line_starts[start]:
                return True
        return False

    def _at_line_start(self) -> bool:
        inside = self._text.rfind(self.spec.answer.open) > self._text.rfind(self.spec.answer.close)
        return not inside and not self._text.rpartition("\n")[2].strip()

    def _answer(self) -> str | None:
        before, opened, rest = self._text.partition(self.spec.answer.open)
        inside, closed, _ = rest.partition(self.spec.answer.close)
        return inside.strip() if opened and closed else None

    def _release(self, *, final: bool) -> str:
        """Show what can no longer be part of the marker's text; the marker itself is cut out."""
        marker = self.spec.marker.text
        visible = self._text
        while marker in visible:
            visible = visible.replace(marker, "")
        held = next((n for n in range(len(marker) - 1, 0, -1) if visible.endswith(marker[:n])), 0)
        if held and (not final or self.reason == "marker" or self._cut_short()):
            visible = visible[: len(visible) - held]
        fresh = visible[len(self._shown) :]
        self._shown += fresh
        return fresh

    def _cut_short(self) -> bool:
        return self.reason is None and len(self.token_ids) >= self.spec.max_new_tokens
