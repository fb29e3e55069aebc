"""The sentences word problems are told in, and reading them back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Story = tuple[int, tuple[tuple[str, int], ...], bool]
"""The first number, the (operator, operand) steps, and whether all numbers are asked for together."""

NAMES = ("Ana", "Ben", "Clara", "David", "Emma", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kira", "Leo")
_THINGS = ("marbles", "apples", "stickers", "shells", "coins", "pencils", "cards", "stamps")


@dataclass(frozen=True)
class Setting:
    """One way to tell a chain. ``{name}`` holds the number, ``{next}`` holds it after a comparison's step."""

    things: tuple[str, ...]
    start: str
    sentences: Mapping[str, tuple[str, ...]]
    last: str
    together: str | None = None

    @property
    def compares(self) -> bool:
        """Whether each step speaks of another person."""
        return "{next}" in self.sentences["+"][0]


SETTINGS = (
    Setting(
        _THINGS,
        "{name} has {k} {things}.",
        {
            "+": ("{name} finds {k} more.", "A friend gives {name} {k} more."),
            "-": ("{name} gives {k} of them away.", "{name} loses {k} of them."),
            "*": ("{name} goes on collecting until there are {k} times as many.",),
            "/": (
                "{name} shares them equally among {k} people, {name} included.",
                "{name} sorts them into {k} equal piles and keeps one pile.",
            ),
        },
        "How many {things} does {name} have now?",
    ),
    Setting(
        ("dollars",),
        "{name} starts with {k} dollars.",
        {
            "+": ("{name} earns {k} dollars more.", "{name} gets {k} dollars as a present."),
            "-": ("{name} spends {k} dollars on food.", "{name} pays {k} dollars for a ticket."),
            "*": ("A prize makes it {k} times as much.",),
            "/": ("{name} divides the money equally among {k} people, {name} included.",),
        },
        "How many dollars does {name} have in the end?",
    ),
    Setting(
        _THINGS,
        "{name} owns {k} {things}.",
        {
            "+": ("{next} has {k} more than {name}.",),
            "-": ("{next} has {k} fewer than {name}.",),
            "*": ("{next} has {k} times as many as {name}.",),
            "/": ("{name} has {k} times as many as {next}.",),
        },
        "How many {things} does {name} have?",
        "How many {things} do they have together?",
    ),
)
_FIELDS = {"k": "(?P<k>[1-9][0-9]{0,5})", "things": "(?P<things>[a-z]+)", "name": "(?P<name>[A-Z][a-z]{0,30})"}


def read_story(text: str) -> Story | None:
    """The chain that ``text`` (sentences one blank apart) tells, or None if it is none of our stories."""
    sentences = re.split(r"(?<=[.?]) ", text)
    return next((story for setting in SETTINGS if (story := _read(setting, sentences)) is not None), None)


def _read(setting: Setting, sentences: list[str]) -> Story | None:
    start = _match(setting.start, sentences[0])
    if start is None or len(sentences) < 2:
        return None
    holder, things = start["name"], start.get("things", setting.things[0])
    steps: list[tuple[str, int]] = []
    for sentence in sentences[1:-1]:
        forms = ((operator, form) for operator, several in setting.sentences.items() for form in several)
        reads = ((operator, _match(form, sentence, name=holder)) for operator, form in forms)
        found = next(((operator, fields) for operator, fields in reads if fields is not None), None)
        if found is None:
            return None
        operator, fields = found
        steps.append((operator, int(fields["k"])))
        holder = fields.get("next", holder)
    if _match(setting.last, sentences[-1], name=holder, things=things) is not None:
        together = False
    elif setting.together is not None and _match(setting.together, sentences[-1], things=things) is not None:
        together = True
    else:
        return None
    return int(start["k"]), tuple(steps), together


def _match(form: str, sentence: str, **known: str) -> dict[str, str] | None:
    """What the sentence puts into the form's fields, given those that are ``known`` already."""
    pattern = re.escape(form)
    for field in re.findall(r"\{(\w+)\}", form):
        default = _FIELDS["name"].replace("name", field) if field == "next" else _FIELDS[field]
        pattern = pattern.replace(rf"\{{{field}\}}", re.escape(known[field]) if field in known else default, 1)
    match = re.fullmatch(pattern, sentence, re.ASCII)
    return None if match is None else match.groupdict()
