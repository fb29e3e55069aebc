"""Reading off a chat template how it writes several turns, as data that holds for every conversation or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from edgekit.policy.chat_template import Message
from edgekit.policy.template_process import BoundedTemplate
from edgekit.routing.spec import PROMPT, TRIMS, Trim
from edgekit.routing.turns import Turn, TurnFormat

FIRST, ANSWER, SECOND, SYSTEM = "{first}", "{answer}", "{second}", "{system}"
SPACED = (" \n\t a  b \u3000\n ", "\n\na\r\nb\n\n", "  a  ")
"""White space that a template may drop at the ends: all of it, or it is not used."""
PROBES = ("Is 3 < 5 & 'a' != \"b\"?\nSay {{ so }} \\n %}", "\u00e9 \U0001f642", *SPACED, "x" * 300)
BLANK = " \n\t\u3000\n "
THINKING = "Is <think>a</think> b?"
THOUGHT = "<think>\nso\n</think>\n\n\nthen "


def turn_format(template: BoundedTemplate, asking: Sequence[Message], trim: Trim) -> TurnFormat | None:
    """How ``template`` writes turns; None if its words around them depend on more than who speaks.

    ``asking``: the conversation before a first response, the user's prompt in it as ``{prompt}``, trimmed as ``trim``
    says. An instruction in it stays: a system message of the user's follows it.
    """
    try:
        found = _read_off(template, asking, trim)
        with_system = found[0].begin_system is not None
        probes = [(turns, _render(template, asking, turns)) for turns in _conversations(with_system=with_system)]
    except ValueError:
        return None
    return next((each for each in found if all(_text(each, turns) == text for turns, text in probes)), None)


def _read_off(template: BoundedTemplate, asking: Sequence[Message], trim: Trim) -> list[TurnFormat]:
    """The formats that may be ``template``'s. Raises ValueError if none can."""
    begin, _, reply = _render(template, asking, [Turn("user", FIRST)]).partition(FIRST)
    text = _render(template, asking, [Turn("user", FIRST), Turn("assistant", ANSWER), Turn("user", SECOND)])
    middle = text.removeprefix(begin + FIRST).removesuffix(SECOND + reply)
    to_assistant, answered, to_user = middle.partition(ANSWER)
    if not answered:
        raise ValueError("it drops what the assistant said")
    system: tuple[str | None, str] = (None, "")
    try:
        text = _render(template, asking, [Turn("system", SYSTEM), Turn("user", FIRST)])
        before, known, after = text.partition(SYSTEM)
        if known:
            system = before, after.removesuffix(FIRST + reply)
    except ValueError:
        pass  # it knows no system messages
    words = TurnFormat(
        begin=begin, begin_system=system[0], end_system=system[1], to_assistant=to_assistant, to_user=to_user,
        reply=reply, user_trim=trim,
    )  # fmt: skip

    ways_with_system = (TRIMS, (False, True)) if system[0] is not None else (TRIMS[:1], (False,))
    names = ("drops_thoughts", "assistant_trim", "system_trim", "drops_blank_system")
    return [
        words.model_copy(update=dict(zip(names, ways, strict=True)))
        for ways in product((False, True), TRIMS, *ways_with_system)
    ]


def _text(form: TurnFormat, turns: Sequence[Turn]) -> str:
    return "".join(part.text for part in form.parts(turns))


def _conversations(*, with_system: bool) -> Iterator[list[Turn]]:
    for first, second in zip((*PROBES, "u"), ("u", *PROBES), strict=True):
        for answer in (second, THOUGHT):
            turns = [Turn("user", first), Turn("assistant", answer), Turn("user", second)]
            yield turns
            yield [*turns, Turn("assistant", first), Turn("user", "then?")]
        if with_system:
            yield [Turn("system", first), Turn("user", second)]
            yield [Turn("system", BLANK), Turn("user", second)]
            yield [Turn("system", second), *turns]


def _render(template: BoundedTemplate, asking: Sequence[Message], turns: Sequence[Turn]) -> str:
    """``turns`` as ``template`` writes them, after what ``asking`` holds besides the prompt."""
    said = [turn for turn in turns if turn.role != "system"]
    given = next((turn.content for turn in turns if turn.role == "system"), None)
    *before, user = asking
    first = user["content"]
    if given is not None and before:
        before = [{**before[0], "content": f"{before[0]['content']}\n\n{given}"}]
    elif given is not None and first != PROMPT:  # an instruction before the prompt
        first = first.replace(PROMPT, f"{given}\n\n{PROMPT}")
    elif given is not None:
        before = [{"role": "system", "content": given}]
    opening = {"role": "user", "content": first.replace(PROMPT, said[0].content)}
    rest = [{"role": turn.role, "content": turn.content} for turn in said[1:]]
    return template.render([*before, opening, *rest], add_generation_prompt=True)
