"""Walking a protobuf message where it lies, without a schema and without copying what is inside."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of each field in turn: an unsigned integer, or the bytes of a text, message or list.

    Raises ValueError where the message is no protobuf.
    """
    position, end = 0, len(message)
    while position < end:
        tag, position = varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, position = varint(message, position)
            yield number, value
            continue
        if kind == BYTES:
            size, position = varint(message, position)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"a field of unknown kind {kind}")
        if size > end - position:
            raise ValueError("a field that ends beyond its message")
        yield number, message[position : position + size]
        position += size


def varint(message: memoryview, position: int) -> tuple[int, int]:
    """(the variable-length integer at ``position``, the position after it). Raises ValueError if there is none."""
    value = shift = 0
    while True:
        if position >= len(message) or shift > 63:
            raise ValueError("a number that does not end")
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7


def integers(value: int | memoryview) -> list[int]:
    """The integers of a repeated field's one entry: a list packed in bytes, or a single one."""
    if isinstance(value, int):
        return [value]
    found, position = [], 0
    while position < len(value):
        number, position = varint(value, position)
        found.append(number)
    return found


def text(value: int | memoryview) -> str:
    """The entry as text. Raises ValueError if it is none."""
    if isinstance(value, int):
        raise ValueError("a number where a text should be")
    return bytes(value).decode()


def inside(value: int | memoryview) -> memoryview:
    """The entry as a message or bytes. Raises ValueError if it is a number."""
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value
