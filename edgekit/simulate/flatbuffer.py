"""Walking a flatbuffer where it lies, without a schema; every offset is checked before it is followed."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_U16, _U32, _I32 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<i")
_FORMATS = {1: "<B", 4: "<I", 8: "<Q"}


@dataclass(frozen=True)
class Table:
    """A table of the buffer, by its place; fields are numbered as the schema lists them."""

    data: memoryview
    place: int

    def _field(self, number: int) -> int | None:
        """Where the field lies, or None if it is left out."""
        start = self.place - _read(_I32, self.data, self.place)
        length = _read(_U16, self.data, start)
        slot = 4 + 2 * number
        offset = _read(_U16, self.data, start + slot) if slot + 2 <= length else 0
        return self.place + offset if offset else None

    def number(self, field: int, size: int) -> int:
        """An unsigned integer of ``size`` bytes; 0 if left out."""
        place = self._field(field)
        return 0 if place is None else int(_read(struct.Struct(_FORMATS[size]), self.data, place))

    def table(self, field: int) -> Table | None:
        """The table that a field refers to."""
        place = self._field(field)
        return None if place is None else Table(self.data, _follow(self.data, place))

    def text(self, field: int) -> str:
        """A string; empty if left out."""
        start, length = self._vector(field, 1)
        return bytes(self.data[start : start + length]).decode()

    def tables(self, field: int) -> list[Table]:
        """A vector of tables."""
        start, length = self._vector(field, 4)
        return [Table(self.data, _follow(self.data, start + 4 * index)) for index in range(length)]

    def numbers(self, field: int, size: int) -> list[int]:
        """A vector of unsigned integers of ``size`` bytes each."""
        start, length = self._vector(field, size)
        return [int(_read(struct.Struct(_FORMATS[size]), self.data, start + size * index)) for index in range(length)]

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """(where the elements of a vector begin, how many there are); they lie in the buffer."""
        place = self._field(field)
        if place is None:
            return 0, 0
        start = _follow(self.data, place)
        length = _read(_U32, self.data, start)
        if start + 4 + size * length > len(self.data):
            raise ValueError("a list that ends beyond the file")
        return start + 4, length


def root(data: memoryview) -> Table:
    """The table that the buffer begins with. Its methods, too, raise ValueError for a place outside the buffer."""
    return Table(data, _follow(data, 0))


def _follow(data: memoryview, place: int) -> int:
    return place + int(_read(_U32, data, place))


def _read(form: struct.Struct, data: memoryview, place: int) -> int:
    if not 0 <= place <= len(data) - form.size:
        raise ValueError("a place outside the file")
    value: int = form.unpack_from(data, place)[0]
    return value
