"""A second, slow account of what the routing-token decoder must do, to check its cases by.

It shares no code with edgekit.routing: every prefix is looked at afresh, and UTF-8 is decoded by hand, after table
3-7 of the Unicode standard, a replacement character for each maximal part of an ill-formed sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

# First byte: (how many bytes in all, smallest and largest second byte).
_LEADS = dict.fromkeys(range(0xC2, 0xE0), (2, 0x80, 0xBF))
_LEADS |= dict.fromkeys(range(0xE1, 0xF0), (3, 0x80, 0xBF)) | {0xE0: (3, 0xA0, 0xBF), 0xED: (3, 0x80, 0x9F)}
_LEADS |= {0xF0: (4, 0x90, 0xBF), 0xF1: (4, 0x80, 0xBF), 0xF2: (4, 0x80, 0xBF), 0xF3: (4, 0x80, 0xBF)}
_LEADS |= {0xF4: (4, 0x80, 0x8F)}
# White_Space of the Unicode standard and the four separators that Python counts too.
BLANKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


def decode_utf8(data: bytes, *, final: bool) -> tuple[str, bool]:
    """The text of ``data`` and whether it ends within a character; ``final`` replaces such an end."""
    text, at = "", 0
    while at < len(data):
        first = data[at]
        if first < 0x80:
            text, at = text + chr(first), at + 1
            continue
        size, low, high = _LEADS.get(first, (1, 0, 0))
        end = at + 1
        while end < min(at + size, len(data)) and (low if end == at + 1 else 0x80) <= data[end] <= (
            high if end == at + 1 else 0xBF
        ):
            end += 1
        if end - at == size > 1:
            code = first & (0x7F >> size)
            for byte in data[at + 1 : end]:
                code = code << 6 | byte & 0x3F
            text += chr(code)
        elif size > 1 and end == len(data) and not final:
            return text, True
        else:
            text += "\ufffd"
        at = end
    return text, False


@dataclass(frozen=True)
class Oracle:
    """One routing.json (as parsed JSON) and what its token ids spell."""

    routing: Mapping[str, Any]
    pieces: Mapping[int, bytes]

    def decide(self, ids: Sequence[int]) -> dict[str, Any]:
        """The case's ``expect``, ``streamed`` and ``token_count``."""
        end = next((n for n in range(1, len(ids) + 1) if self._ending(ids[:n])), None)
        count = len(ids) if end is None else end
        shown = [self._shown(ids[:n], self._ending(ids[:n])) for n in range(count + 1)]
        streamed = [after[len(before) :] for before, after in pairwise(shown)]
        ending = "" if end is None else self._ending(ids[:count])
        text = shown[-1] if ending else self._shown(ids, "length")
        answer = None if ending == "marker" else self._answer(ids[:count], ending)
        reason = "marker" if ending == "marker" else "no_answer" if answer is None else "answer"
        route = {"marker": "cloud", "answer": "local", "no_answer": self.routing["on_no_answer"]}[reason]
        expect = {"route": route, "reason": reason, "text": text, "answer": answer}
        return {"expect": expect, "streamed": streamed + [""] * (len(ids) - count), "token_count": count}

    def _raw(self, ids: Sequence[int]) -> bytes:
        return b"".join(self.pieces.get(i, b"") for i in ids)

    def _ending(self, ids: Sequence[int]) -> str:
        """How the response ends with the last of ``ids``, "" if it goes on."""
        if not ids:
            return ""
        for marker in self.routing["marker"]["token_ids"]:
            if list(ids[-len(marker) :]) == list(marker) and self._line_start(ids[: -len(marker)]):
                return "marker"
        if ids[-1] in self.routing["stop_token_ids"]:
            return "stop"
        return "answer" if self._closed_at(decode_utf8(self._raw(ids), final=False)[0]) else ""

    def _line_start(self, before: Sequence[int]) -> bool:
        text, half = decode_utf8(self._raw(before), final=False)
        inside = self._answer_in(text) is not None
        return not half and not inside and all(c in BLANKS for c in text.split("\n")[-1])

    def _answer_in(self, text: str) -> tuple[int, int] | None:
        """Where the answer's inside begins and ends (-1: not yet), None if no answer is begun outside a thought."""
        opening, closing = self.routing["answer"]["open"], self.routing["answer"]["close"]
        template = self.routing["prompt_template"].split("{prompt}")[-1]
        at, thinks = 0, "<think>" in template.split("</think>")[-1]
        while True:
            if thinks:
                end = text.find("</think>", at)
                if end < 0:
                    return None
                at, thinks = end + len("</think>"), False
            opened, thought = (text.find(mark, at) for mark in (opening, "<think>"))
            if opened >= 0 and (thought < 0 or opened + len(opening) <= thought + len("<think>")):
                begin = opened + len(opening)
                return begin, text.find(closing, begin)
            if thought < 0:
                return None
            at, thinks = thought + len("<think>"), True

    def _closed_at(self, text: str) -> int:
        """Where the first answer ends, 0 if none does."""
        found = self._answer_in(text)
        return 0 if found is None or found[1] < 0 else found[1] + len(self.routing["answer"]["close"])

    def _shown(self, ids: Sequence[int], ending: str) -> str:
        """What the user has seen after ``ids``. Whole markers are taken out as they come together."""
        marker = self.routing["marker"]["text"]
        read = ids[:-1] if ending in ("marker", "stop") else ids
        text = decode_utf8(self._raw(read), final=ending in ("stop", "length"))[0]
        if ending == "answer":
            text = text[: self._closed_at(text)]
        kept, safe = "", 0
        for character in text:
            kept += character
            if kept.endswith(marker):
                kept = kept[: max(safe, len(kept) - len(marker))]
            tail = max(n for n in range(len(marker)) if kept.endswith(marker[:n]))
            safe = max(safe, len(kept) - tail)
        return kept if ending in ("stop", "answer") else kept[:safe]

    def _answer(self, ids: Sequence[int], ending: str) -> str | None:
        text = decode_utf8(self._raw(ids[:-1] if ending == "stop" else ids), final=False)[0]
        end = self._closed_at(text)
        if not end:
            return None
        found = self._answer_in(text)
        assert found is not None
        inside = text[found[0] : found[1]]
        while self.routing["marker"]["text"] in inside:
            inside = inside.replace(self.routing["marker"]["text"], "")
        return inside.strip(BLANKS)
