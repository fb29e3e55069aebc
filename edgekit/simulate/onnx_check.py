"""Looking at a model.onnx before ONNX Runtime does: could edgekit have written it, and does it fit its file?"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.errors import BundleError
from edgekit.plain_file import open_plain
from edgekit.recipes.onnx_operators import DOMAINS, EXTERNAL_SUFFIX
from edgekit.simulate.protobuf import fields, inside, integers, text

BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 21: 4, 22: 4}
"""Of one number, by ONNX's data type."""
INPUTS = frozenset({"input_ids", "position", "attention_mask", "position_ids"})
MOST_NODES = 100_000

# Field numbers of onnx.proto.
GRAPH, METADATA = 7, {1, 2, 3, 4, 5, 6, 8, 14}
NODE, INITIALIZER, INPUT, OUTPUT, GRAPH_METADATA = 1, 5, 11, 12, {2, 10, 13, 14, 16}
OPERATOR, ATTRIBUTE, DOMAIN = 4, 5, 7
SUBGRAPHS = {6, 11, 15, 22, 23}  # graphs, types and sparse tensors inside an attribute
DIMS, DATA_TYPE, TENSOR_NAME, RAW_DATA, EXTERNAL, LOCATION = 1, 2, 8, 9, 13, 14


@dataclass
class _Tensor:
    name: str = ""
    dims: list[int] = field(default_factory=list)
    data_type: int = 0
    raw_bytes: int | None = None
    external: dict[str, str] = field(default_factory=dict)
    elsewhere: bool = False
    odd: bool = False

    @property
    def size(self) -> int:
        """Bytes that its shape and type call for."""
        if self.data_type not in BITS or any(dim >= 2**63 for dim in self.dims):
            raise ValueError(f"a weight {self.name!r} of an unknown type or shape")
        return -(-math.prod(self.dims) * BITS[self.data_type] // 8)


def check_model(path: Path) -> None:
    """Raise :class:`BundleError` unless ``path`` is a graph such as edgekit writes, whose weights lie in it and in
    the one file beside it, as large as their shapes say."""
    try:
        with open_plain(path) as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        fault = _fault(whole, path)
    except (OSError, ValueError) as error:  # ValueError: not a protobuf, or an empty file
        fault = f"it holds {error}" if not isinstance(error, OSError) else str(error.strerror)
    if fault is not None:
        raise BundleError(f"cannot load {path}: {fault}. edgekit writes no such model. Export it again.")


def _fault(whole: memoryview, path: Path) -> str | None:
    graphs = 0
    for number, value in fields(whole):
        if number == GRAPH:
            graphs += 1
            fault = _graph_fault(inside(value), path)
            if fault is not None:
                return fault
        elif number not in METADATA:
            return f"its part {number} is unknown (functions, training)"
    return None if graphs == 1 else f"it has {graphs} graphs"


def _graph_fault(graph: memoryview, path: Path) -> str | None:
    inputs: list[str] = []
    outputs: list[str] = []
    nodes = 0
    for number, value in fields(graph):
        fault = None
        if number == NODE:
            nodes += 1
            fault = _node_fault(inside(value))
        elif number == INITIALIZER:
            fault = _weight_fault(_read_tensor(inside(value)), path)
        elif number in (INPUT, OUTPUT):
            (inputs if number == INPUT else outputs).append(_name(inside(value)))
        elif number not in GRAPH_METADATA:
            fault = f"its graph's part {number} is unknown"
        if fault is not None:
            return fault
    if nodes > MOST_NODES:
        return f"it has {nodes:,} nodes"
    odd = [name for name in inputs if name not in INPUTS and not name.startswith("past_")]
    odd += [name for name in outputs if name != "logits" and not name.startswith("present")]
    if odd or "logits" not in outputs or "input_ids" not in inputs:
        return f"it takes {len(inputs)} inputs and gives {len(outputs)} outputs that are not a policy's {odd[:3]}"
    return None


def _node_fault(node: memoryview) -> str | None:
    operator = domain = ""
    for number, value in fields(node):
        if number == OPERATOR:
            operator = text(value)
        elif number == DOMAIN:
            domain = text(value)
        elif number == ATTRIBUTE and any(part in SUBGRAPHS for part, _ in fields(inside(value))):
            return "a node has a graph inside it"
    known = operator in DOMAINS.get(domain, ())
    return None if known else f"unknown operator {f'{domain}.{operator}'.lstrip('.')[:80]}"


def _weight_fault(tensor: _Tensor, path: Path) -> str | None:
    where = f"the weight {tensor.name[:80]!r}"
    if tensor.odd:
        return f"{where} holds its numbers in an unknown way"
    if not tensor.elsewhere:
        held = tensor.raw_bytes or 0
        return None if held == tensor.size else f"{where} has {held:,} bytes where its shape calls for {tensor.size:,}"
    if tensor.external.get("location") != path.name + EXTERNAL_SUFFIX:
        return f"{where} lies in {tensor.external.get('location')!r}, outside the model's own files"
    begin, length = int(tensor.external.get("offset", "0")), int(tensor.external.get("length", "-1"))
    file = path.with_name(path.name + EXTERNAL_SUFFIX)
    held = file.stat().st_size if file.is_file() and not file.is_symlink() else 0
    if length != tensor.size or begin < 0 or begin + length > held:
        return f"{where} is not where it says: {length:,} bytes from {begin:,} of {held:,}"
    return None


def _read_tensor(tensor: memoryview) -> _Tensor:
    read = _Tensor()
    for number, value in fields(tensor):
        if number == DIMS:
            read.dims += integers(value)
        elif number == DATA_TYPE:
            read.data_type = integers(value)[0]
        elif number == TENSOR_NAME:
            read.name = text(value)
        elif number == RAW_DATA:
            read.raw_bytes = len(inside(value))
        elif number == EXTERNAL:
            entry = {part: text(content) for part, content in fields(inside(value))}
            read.external[entry.get(1, "")] = entry.get(2, "")
        elif number == LOCATION:
            read.elsewhere = value == 1
        else:
            read.odd = True
    return read


def _name(value_info: memoryview) -> str:
    return next((text(value) for number, value in fields(value_info) if number == 1), "")
