"""What is wrong with a request, in one plain line."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError

from edgekit.faults import what_is_wrong
from edgekit.serve.openai_api import ChatRequest

SHOWN = 3


def bad_request(error: RequestValidationError) -> str:
    """The line for a request that does not fit the API."""
    faults: dict[tuple[Any, ...], list[str]] = {}
    for each in error.errors():
        # Before the name of a parameter stands where it is; between them, which kind of a text or list was tried.
        place = tuple(part for part in each["loc"][1:] if isinstance(part, int) or part.isidentifier())
        if each["type"] == "json_invalid":
            place = ()
        faults.setdefault(place, []).append(what_is_wrong(each, ChatRequest))
    # Of a list that was no text either, what is wrong inside says more.
    deepest = [place for place in faults if not any(len(e) > len(place) and e[: len(place)] == place for e in faults)]
    lines = [f"{'.'.join(map(str, place)) or 'body'}: {' and '.join(faults[place])}" for place in deepest[:SHOWN]]
    more = f"; and {len(deepest) - SHOWN} more" if len(deepest) > SHOWN else ""
    line = f"bad request: {'; '.join(lines)}{more}. It does not fit OpenAI's chat API as served here. Correct it."
    return line.encode("utf-8", "replace").decode()
