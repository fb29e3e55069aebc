"""The oldest ONNX Runtime whose kernels suffice for a graph, from the operators in it.

Tried on x86-64 with the artifacts of every shipped recipe in each minor version from 1.19 (no older one works with
NumPy 2) to 1.31: tests/export/try_onnxruntime.py does it again.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from typing import Any

Version = tuple[int, int]

PLAIN: Version = (1, 19)
TRIED = frozenset(
    (
        *("Add", "Cast", "Concat", "Expand", "FusedMatMul", "Gather", "GatherBlockQuantized", "Gelu"),
        *("GroupQueryAttention", "MatMulNBits", "Mul", "Pad", "QuickGelu", "Relu", "Reshape", "RotaryEmbedding"),
        *("Shape", "SimplifiedLayerNormalization", "Size", "SkipSimplifiedLayerNormalization", "Slice", "Split"),
        *("Sub", "Unsqueeze"),
    )
)
"""Operators that PLAIN has, but for what :func:`_first` knows better."""


def oldest_runtime(nodes: Iterable[Any]) -> str:
    """The version, such as "1.23", that runs ``nodes`` (onnx.NodeProto); the one here if it was tried with no other."""
    return "{}.{}".format(*max((_first(node) for node in nodes), default=PLAIN))


def _first(node: Any) -> Version:
    """The first version with a kernel for ``node``."""
    whole = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type not in TRIED:
        major, minor = importlib.metadata.version("onnxruntime").split(".")[:2]
        return int(major), int(minor)
    if node.op_type == "GatherBlockQuantized":
        return 1, 23  # the attribute bits
    if node.op_type == "MatMulNBits" and whole["bits"] == 8:
        return (1, 22) if whole["accuracy_level"] == 4 else (1, 23)
    if node.op_type == "GroupQueryAttention" and len(node.input) > 12:
        return 1, 27  # scales of a cache of integers
    if node.op_type == "GroupQueryAttention" and len(node.input) > 9:
        return 1, 22  # scores to add
    return PLAIN
