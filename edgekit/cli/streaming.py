"""Answers as they are written, on stdout: the device's words, what happens to the prompt, the cloud's words."""

from __future__ import annotations

import sys

from edgekit.cli.harmless import harmless
from edgekit.hybrid.events import CloudText, DeviceText, Event, HandOff, HybridAnswer, Restart

REASONS = {
    "answer": "the policy answered itself",
    "marker": "the policy called for the cloud",
    "no_answer": "the policy ended without an answer",
    "too_long": "the prompt is too long for the device",
    "device_failed": "the device's model failed",
    "offline": "a hand-off was due, but no cloud answered",
    "budget": "a hand-off was due, but the budget is spent",
    "consent": "a hand-off was due, but the prompt was kept here",
}


def printable(text: str) -> str:
    """``text`` without what would steer a terminal; both models' words are data."""
    return "".join(c if harmless(c) == c else "\N{REPLACEMENT CHARACTER}" for c in text)


class Screen:
    """Writes the events of one prompt."""

    def __init__(self) -> None:
        self._at_line_start = True

    def __call__(self, event: Event) -> None:
        """Show what happened."""
        if isinstance(event, DeviceText | CloudText):
            self._write(event.text)
        elif isinstance(event, HandOff):
            self._note(f"{REASONS[event.reason]}: handed off to {event.request.model} at {event.request.server}")
        elif isinstance(event, Restart):
            self._note(f"{REASONS[event.reason]}: the device's own attempt, which is not sure")

    def finish(self, answer: HybridAnswer) -> None:
        """The line that says which side answered and why."""
        self._end_line()
        if answer.notice:
            self._note(answer.notice)
        cloud_time = "" if answer.cloud_ms is None else f", cloud {answer.cloud_ms:.0f} ms"
        grade = {True: " (right)", False: " (wrong)", None: ""}[answer.correct]
        times = f"{answer.generated_tokens} tokens, local {answer.local_ms:.0f} ms{cloud_time}"
        why = f"{REASONS[answer.reason]}; marker margin {answer.marker_margin:+.2f}"
        said = "no answer" if answer.answer is None else " ".join(answer.answer.split())
        self._write(f"-> {said}{grade}, by {answer.route}: {why}, {times}\n")

    def _note(self, line: str) -> None:
        self._end_line()
        self._write(f"[{' '.join(line.split())}]\n")

    def _end_line(self) -> None:
        if not self._at_line_start:
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(printable(text))
            sys.stdout.flush()
            self._at_line_start = text.endswith("\n")
