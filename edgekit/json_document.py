"""JSON that comes from outside, read the one way that the Python, Kotlin and Swift readers share.

RFC 8259 in UTF-8 and nothing more: no byte order mark, no key twice in an object, no half of a surrogate pair, no
number beyond a double's range, at most 64 brackets deep. A number is whole if its value is (1.0 and 1e3 are), as in
JSON Schema, and as long as a double holds it exactly. tests/conformance/documents.json lists what must be taken and
what refused.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, Field, ValidationError

from edgekit.errors import ErrorKind
from edgekit.faults import faults_of

MAX_DEPTH = 64
LARGEST_WHOLE = 2**53
TokenId = Annotated[int, Field(ge=0, lt=2**31)]  # what a phone's 32-bit integer holds

Model = TypeVar("Model", bound=BaseModel)


class DocumentFault(ValueError):
    """What is wrong with a document; the caller knows which file it was, and what to do."""

    def __init__(self, kind: ErrorKind, why: str) -> None:
        super().__init__(why)
        self.kind = kind


def parse_json(data: bytes) -> Any:
    """The value of the JSON text ``data``. Raises :class:`DocumentFault` (``not_json``)."""
    return _parse(data)[0]


def check_document(
    data: bytes, model: type[Model], *, newest: int | None = None, document_format: str | None = None
) -> Model:
    """``data`` as a ``model``; ``newest`` is the latest version known here, None for documents without one.

    Raises :class:`DocumentFault`: ``not_json``, ``wrong_format``, ``newer`` or ``bad_field``, the first that applies.
    """
    value, canonical = _parse(data)
    members = value if isinstance(value, dict) else {}
    if document_format is not None and members.get("format") != document_format:
        raise DocumentFault(ErrorKind.WRONG_FORMAT, f"it is not an {document_format}")
    version = members.get("version")
    if newest is not None and isinstance(version, int) and version > newest:
        raise DocumentFault(ErrorKind.NEWER, f"version {version} is newer than {newest}")
    try:
        return model.model_validate_json(canonical, strict=True)
    except ValidationError as error:
        raise DocumentFault(ErrorKind.BAD_FIELD, first_faults(error, model)) from None


def first_faults(error: ValidationError, model: type[BaseModel], most: int = 3) -> str:
    """The first faults of what ``model`` refused, in one line."""
    found = [str(fault) for fault in faults_of(error, model)]
    return "; ".join(found[:most]) + (f"; and {len(found) - most} more" if len(found) > most else "")


def _parse(data: bytes) -> tuple[Any, bytes]:
    """The value, and its text written again: without surrogates, whole numbers as such."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_members,
            parse_constant=_refuse_constant,
            parse_float=_number,
            parse_int=_number,
        )
        if _depth(value) > MAX_DEPTH:
            raise DocumentFault(ErrorKind.NOT_JSON, f"more than {MAX_DEPTH} brackets deep")
        return value, json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except DocumentFault:
        raise
    except RecursionError:
        raise DocumentFault(ErrorKind.NOT_JSON, f"more than {MAX_DEPTH} brackets deep") from None
    except UnicodeEncodeError:
        raise DocumentFault(ErrorKind.NOT_JSON, "a text holds half of a surrogate pair") from None
    except ValueError as error:  # no UTF-8, or no JSON
        raise DocumentFault(ErrorKind.NOT_JSON, str(error)) from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise DocumentFault(ErrorKind.NOT_JSON, f"the key {twice!r} stands twice")
    return members


def _number(text: str) -> int | float:
    value = float(text)
    if math.isinf(value):
        raise DocumentFault(ErrorKind.NOT_JSON, f"the number {text[:20]}... is beyond a double's range")
    return int(value) if value.is_integer() and abs(value) <= LARGEST_WHOLE else value


def _refuse_constant(text: str) -> NoReturn:
    raise DocumentFault(ErrorKind.NOT_JSON, f"{text} is no JSON number")


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0
