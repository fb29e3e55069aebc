"""A Jinja chat template, rendered as transformers renders it: its own functions, filters and tags, and no others.

A template is data from outside: it runs in Jinja's sandbox, what it may build is bounded, and whatever it does wrong
is one line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = Mapping[str, str]
TODAY = datetime(2024, 7, 26)
"""What every template takes for today, so that a prompt is the same tomorrow; Llama 3's own date without a clock."""
LONGEST = 1_000_000
"""Characters that a template may write, and parts of what it may multiply."""
LARGEST_POWER = 64
GIVEN = frozenset({"messages", "tools", "documents", "add_generation_prompt"})
"""What a rendering gives every template."""


class ChatTemplate:
    """One template. ``tells_date`` is true once a rendering has asked for the date."""

    def __init__(self, source: str, settings: Mapping[str, Any]) -> None:
        """``settings`` are what the template knows besides the messages: special tokens and its arguments.

        Raises ValueError if ``source`` is no template.
        """
        self.tells_date = False
        self._settings = dict(settings)
        if own := sorted(GIVEN.intersection(settings)):
            raise ValueError(f"{own[0]} is no argument, edgekit gives it")
        self._template = self._guarded(lambda: _environment(self._now).from_string(source))

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """The conversation's text, with where the assistant begins if ``add_generation_prompt``. Raises ValueError."""
        given = {"messages": [dict(message) for message in messages], "tools": None, "documents": None}

        def write() -> str:
            parts, length = [], 0
            for part in self._template.generate(**given, **self._settings, add_generation_prompt=add_generation_prompt):
                parts.append(part)
                length += len(part)
                if length > LONGEST:
                    raise ValueError(f"it writes more than {LONGEST:,} characters")
            text = "".join(parts)
            text.encode()  # half of a character is no text, and a UnicodeEncodeError a ValueError
            return text

        return self._guarded(write)

    def _now(self, form: str) -> str:
        self.tells_date = True
        return TODAY.strftime(form)

    def _guarded(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except RecursionError:
            raise ValueError("it calls itself without end") from None
        except (
            TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            TypeError,
            ValueError,
        ) as error:
            raise ValueError(" ".join(str(error).split())[:200].rstrip(".") or type(error).__name__) from None


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which products and powers stay small."""

    intercepted_binops = frozenset(("*", "**"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        repeated = [value for value in (left, right) if hasattr(value, "__len__")]
        times = [value for value in (left, right) if isinstance(value, int)]
        too_long = repeated and times and len(repeated[0]) * times[0] > LONGEST
        if too_long or (operator == "**" and abs(right) > LARGEST_POWER):
            raise ValueError(f"it makes something of more than {LONGEST:,} parts")
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant said, for training. The text is what stands inside."""

    tags = {"generation"}  # noqa: RUF012  jinja2's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment(now: Callable[[str], str]) -> _Sandbox:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
    environment.filters["tojson"] = _tojson
    environment.globals |= {"raise_exception": _refuse, "strftime_now": now}
    return environment


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Without Jinja's escapes of HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
