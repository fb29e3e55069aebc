"""What commands share at the terminal: one JSON object on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from edgekit.cli.harmless import harmless
from edgekit.errors import EdgekitError

if TYPE_CHECKING:
    from edgekit.recipes.fit import Fallback


class PlainConsole(Console):
    """Shows text as what it is: nothing in it is markup, and no character in it moves the cursor or rings a bell.

    Names, paths, answers and replies come from outside; whatever is printed goes through here.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See rich: every piece of text made harmless, styles kept."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)


out = PlainConsole()
err = PlainConsole(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
TaskOption = Annotated[
    str | None,
    typer.Option(help="NAME, FILE.py, FILE.jsonl[#RULE] or hub:DATASET; by default the one it was trained on."),
]

CloudOption = Annotated[
    str,
    typer.Option(
        help="own (the run's, else oracle), oracle[:accuracy] (a stand-in: the task's own right answers), none or "
        "openai:MODEL@BASE_URL (key: EDGEKIT_CLOUD_API_KEY, or OpenAI's own variable)."
    ),
]

PricesOption = Annotated[
    Path | None,
    typer.Option(help="What the cloud costs: a YAML, MODEL: {prompt: USD, completion: USD} a million tokens."),
]

ResultsOption = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Write what became of each prompt to this file, a line of JSON each."),
]


def tell_bill(sentence: str) -> None:
    """Say before work starts what a real cloud may be asked."""
    err.print(f"cloud: {sentence}", soft_wrap=True)


def standard_input() -> IO[bytes]:
    """What is piped in, as bytes. Raises :class:`EdgekitError` if stdin is closed."""
    if sys.stdin is None:
        raise EdgekitError("no input: stdin. It is closed. Pipe something in, or leave it open.")
    return sys.stdin.buffer


def print_json(data: dict[str, Any]) -> None:
    """Print ``data`` as one line of strict JSON: infinities and NaN become null."""
    print(json.dumps(_finite(data)))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def refuse_idle(context: typer.Context, why: str, *names: str) -> None:
    """Raise :class:`EdgekitError` if options of these ``names`` were typed, which do nothing, and ``why``."""
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    typed = [options[name] for name in names if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if typed:
        raise EdgekitError(f"option without effect: {', '.join(typed)}. {why}. Leave it out.")


def print_fallbacks(recipe: str, fallbacks: Sequence[Fallback]) -> None:
    """One line for each kind of weight that ``recipe``'s groups do not divide: what it got instead."""
    for fallback in fallbacks:
        out.print(f"{recipe} does not divide {fallback}", soft_wrap=True)
