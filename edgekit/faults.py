"""What pydantic refuses, in plain words: which key, which value, why, and which key may have been meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

LONGEST_VALUE = 40
SUGGESTED = 50
"""Faults that are looked at for the key that was meant; comparing takes a while."""
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "a text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping of keys to values",
    "mapping": "a mapping of keys to values",
    "model": "a mapping of keys to values",
    "model_attributes": "a mapping of keys to values",
}
_BOUNDS = {
    "greater_than_equal": ("less than", "ge"),
    "greater_than": ("not more than", "gt"),
    "less_than_equal": ("more than", "le"),
    "less_than": ("not less than", "lt"),
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong; ``where`` is the key, dots between its parts, empty for the whole."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


def faults_of(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """Every fault of data that ``model`` refused, in its order."""
    return [
        Fault(".".join(map(str, each["loc"])), what_is_wrong(each, model, suggest=number < SUGGESTED))
        for number, each in enumerate(error.errors())
    ]


def what_is_wrong(fault: ErrorDetails, model: type[BaseModel], *, suggest: bool = True) -> str:
    """One of pydantic's faults in data for ``model``, in a line that does not say where."""
    return " ".join(_what(fault, model, suggest).split())


def _what(fault: ErrorDetails, model: type[BaseModel], suggest: bool) -> str:
    kind, value, context = fault["type"], _shown(fault["input"]), fault.get("ctx", {})
    if kind == "extra_forbidden":
        key = str(fault["loc"][-1])
        return unknown_key(key, list(_keys_at(model, fault["loc"][:-1]))) if suggest else "unknown key"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":  # one of edgekit's own validators
        return str(context["error"])
    if kind == "literal_error":
        return f"{value} is not one of {context['expected'].replace(' or ', ', ')}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"{value} is {words} {context[bound]}"
    if kind == "too_short":
        return f"has {context['actual_length']} entries, fewer than {context['min_length']}"
    if kind == "too_long":
        return f"has {context['actual_length']} entries, more than {context['max_length']}"
    if kind == "string_too_long":
        return f"has more than {context['max_length']:,} characters"
    if kind == "string_unicode":
        return "holds half of a surrogate pair"
    if kind == "json_invalid":
        return "is not JSON"
    if kind == "finite_number":
        return f"{value} is not a finite number"
    expected = _KINDS.get(kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float"))
    return f"{value} is not {expected}" if expected else f"{value}: {fault['msg']}"


def unknown_key(key: str, known: list[str]) -> str:
    """What to say of a ``key`` that is none of ``known``."""
    close = difflib.get_close_matches(key, known, n=1) if len(key) <= LONGEST_VALUE else []
    return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; there are {', '.join(known) or 'none'}"


def _keys_at(model: type[BaseModel], place: tuple[int | str, ...]) -> Iterator[str]:
    """The keys of the model that ``place`` leads to; numbers in it count the entries of lists."""
    for part in place:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = next(_models_in(field.annotation), model)
    yield from model.model_fields


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
