"""A growing ONNX graph whose weights are made one at a time while the file is written.

Knows the file format and nothing of language models.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgekit.recipes.onnx_operators import EXTERNAL_SUFFIX, MICROSOFT, STANDARD

OPSET = 20
IR_VERSION = 10
INLINE_LIMIT = 1_900_000_000
"""Bytes of weights from which on they go to a file of their own: a protobuf message ends at 2 GiB."""
EXTERNAL_FROM = 1024
"""Smaller tensors stay inline: shapes and axes must be readable without the other file."""
ALIGNMENT = 4096
"""Weights in the other file begin on a page, so that the runtime can map them."""


@dataclass(frozen=True)
class Weight:
    """A constant of the graph: its type is known now, its numbers when ``make`` is called to write it."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    make: Callable[[], NDArray[Any]]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


class Graph:
    """Nodes in the order they run, weights by name, inputs and outputs."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, Weight] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def node(
        self, operator: str, inputs: Sequence[str], name: str, outputs: Sequence[str] = (), **attributes: Any
    ) -> str:
        """Append a node called ``name``; returns its first output, which is called the same unless named."""
        from onnx import helper

        assert operator in MICROSOFT or operator in STANDARD, f"{operator} is not in edgekit/recipes/onnx_operators.py"
        names = list(outputs) or [name]
        domain = "com.microsoft" if operator in MICROSOFT else ""
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=name, domain=domain, **attributes))
        return names[0]

    def rename(self, old: str, new: str) -> None:
        """Call the last node's first output ``new``."""
        assert self.nodes[-1].output[0] == old
        self.nodes[-1].output[0] = new

    def weight(self, name: str, shape: Iterable[int], dtype: DTypeLike, make: Callable[[], NDArray[Any]]) -> str:
        """Register a weight (once per name); returns its name."""
        self.weights.setdefault(name, Weight(name, np.dtype(dtype), tuple(shape), make))
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Register a small array that exists already."""
        return self.weight(name, value.shape, value.dtype, lambda: value)

    def input(self, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> str:
        """Declare an input; a dimension that is a word is free."""
        self.inputs.append(_value_info(name, dtype, shape))
        return name

    def output(self, name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> None:
        """Declare an output that some node makes."""
        self.outputs.append(_value_info(name, dtype, shape))


def write_graph(graph: Graph, path: Path) -> None:
    """Write ``graph`` as ``path``, its weights inside or, beyond INLINE_LIMIT bytes, in ``path`` + "_data".

    Never holds more than one weight in memory. The same graph gives the same bytes.
    """
    from onnx import helper

    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    empty = helper.make_graph(graph.nodes, "edgekit", graph.inputs, graph.outputs)
    model = helper.make_model(empty, opset_imports=domains, ir_version=IR_VERSION, producer_name="edgekit")
    body = model.graph.SerializeToString(deterministic=True)
    model.ClearField("graph")
    weights = list(graph.weights.values())
    outside = sum(weight.size for weight in weights) > INLINE_LIMIT
    external = path.with_name(path.name + EXTERNAL_SUFFIX)
    heads, offset = [], 0
    for weight in weights:
        if outside and weight.size >= EXTERNAL_FROM:
            heads.append((weight, _external_head(weight, external.name, offset), False))
            offset += -(-weight.size // ALIGNMENT) * ALIGNMENT
        else:
            heads.append((weight, _inline_head(weight), True))
    # A message's fields may come in any order, so that the nodes are written first and then weight by weight.
    lengths = [len(head) + (weight.size if inline else 0) for weight, head, inline in heads]
    total = len(body) + sum(1 + len(_varint(length)) + length for length in lengths)
    temporary = path.with_name(path.name + ".partial")
    with open(temporary, "wb") as file:
        file.write(model.SerializeToString(deterministic=True) + _tag(7) + _varint(total) + body)
        for (weight, head, inline), length in zip(heads, lengths, strict=True):
            file.write(_tag(5) + _varint(length) + head)
            if inline:
                _write_numbers(file, weight)
    if outside:
        with open(external, "wb") as file:
            for weight, _, inline in heads:
                if not inline:
                    _write_numbers(file, weight)
                    file.write(b"\0" * (-weight.size % ALIGNMENT))
    os.replace(temporary, path)


def _write_numbers(file: IO[bytes], weight: Weight) -> None:
    array = np.asarray(weight.make(), weight.dtype, order="C")
    assert array.shape == weight.shape, f"{weight.name}: {array.shape} instead of {weight.shape}"
    file.write(array.reshape(-1).view(np.uint8).data)


def _inline_head(weight: Weight) -> bytes:
    """A TensorProto up to its numbers (field 9, raw_data)."""
    return _tensor(weight).SerializeToString(deterministic=True) + _tag(9) + _varint(weight.size)


def _external_head(weight: Weight, file: str, offset: int) -> bytes:
    """A TensorProto whose numbers are elsewhere."""
    tensor = _tensor(weight)
    tensor.data_location = tensor.EXTERNAL
    for key, value in (("location", file), ("offset", str(offset)), ("length", str(weight.size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return bytes(tensor.SerializeToString(deterministic=True))


def _tensor(weight: Weight) -> Any:
    from onnx import TensorProto, helper

    return TensorProto(name=weight.name, dims=weight.shape, data_type=helper.np_dtype_to_tensor_dtype(weight.dtype))


def _value_info(name: str, dtype: DTypeLike, shape: Sequence[int | str]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))


def _tag(field: int) -> bytes:
    """Protobuf's tag of a length-delimited field below 16."""
    return bytes([field << 3 | 2])


def _varint(number: int) -> bytes:
    """Protobuf's variable-length integer."""
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])
