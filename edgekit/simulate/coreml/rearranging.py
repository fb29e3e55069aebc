"""Operations of ML Programs that convert, pick and move numbers without computing new ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from edgekit.simulate.coreml.half import as_half
from edgekit.simulate.coreml.node import Array, Builder, Function, Node

CASTS: dict[str, type] = {
    "fp32": np.float32,
    "int32": np.int32,
    "int16": np.int16,
    "uint16": np.uint16,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}


def _cast(node: Node) -> Function:
    node.take("x")
    name = str(node.constant("dtype"))
    if name == "fp16":
        return as_half
    if name not in CASTS:
        raise node.refuse(f"dtype {name}")
    dtype = CASTS[name]
    return lambda x: x.astype(dtype, copy=False)


def _gather(node: Node) -> Function:
    node.take("x")
    node.take("indices")
    axis = int(node.constant("axis", 0))
    node.constant("validate_indices", False)  # an index outside is an error here either way
    if int(node.constant("batch_dims", 0)):
        raise node.refuse("batch_dims other than 0")

    def run(x: Array, indices: Array) -> Array:
        if indices.size and (indices.min() < 0 or indices.max() >= x.shape[axis]):
            raise IndexError(f"index {indices.min()}..{indices.max()} outside 0..{x.shape[axis] - 1}")
        return np.take(x, indices, axis=axis)

    return run


def _reshape(node: Node) -> Function:
    node.take("x")
    shape = tuple(int(n) for n in node.constant("shape"))
    if 0 in shape:
        raise node.refuse("a 0 in shape (copy this dimension)")
    return lambda x: x.reshape(shape)


def _transpose(node: Node) -> Function:
    node.take("x")
    order = tuple(int(n) for n in node.constant("perm"))
    return lambda x: x.transpose(order)


def _expand_dims(node: Node) -> Function:
    node.take("x")
    axes = tuple(int(n) for n in node.constant("axes"))
    return lambda x: np.expand_dims(x, axes)


def _squeeze(node: Node) -> Function:
    node.take("x")
    axes = node.constant("axes", None)
    axis = None if axes is None else tuple(int(n) for n in axes)
    return lambda x: np.squeeze(x, axis)


def _concat(node: Node) -> Function:
    node.take_all("values")
    axis = int(node.constant("axis"))
    if bool(node.constant("interleave", False)):
        raise node.refuse("interleave")
    return lambda *values: np.concatenate(values, axis)


def _split(node: Node) -> Function:
    node.take("x")
    axis = int(node.constant("axis"))
    sizes = node.constant("split_sizes", None)
    count = int(node.constant("num_splits", 0))

    def run(x: Array) -> tuple[Array, ...]:
        widths = [x.shape[axis] // count] * count if sizes is None else sizes.tolist()
        if sum(widths) != x.shape[axis]:
            raise ValueError(f"sizes {widths} do not add up to {x.shape[axis]}")
        ends = list(itertools.accumulate(widths))
        before: tuple[slice, ...] = (slice(None),) * (axis % x.ndim)
        return tuple(x[(*before, slice(end - width, end))] for end, width in zip(ends, widths, strict=True))

    return run


def _tile(node: Node) -> Function:
    node.take("x")
    repeats = tuple(int(n) for n in node.constant("reps"))
    return lambda x: np.tile(x, repeats)


def _select(node: Node) -> Function:
    for name in ("cond", "a", "b"):
        node.take(name)
    return np.where


def _window(node: Node) -> Callable[[Array, Array], tuple[slice | int, ...]]:
    """begin, end -> numpy's index, with the strides and masks of a slice operation."""
    stride, begins, ends, squeezes = (
        node.constant(name, None) for name in ("stride", "begin_mask", "end_mask", "squeeze_mask")
    )

    def index(begin: Array, end: Array) -> tuple[slice | int, ...]:
        out: list[slice | int] = []
        for axis, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
            if squeezes is not None and squeezes[axis]:
                out.append(first)
                continue
            start = None if begins is not None and begins[axis] else first
            stop = None if ends is not None and ends[axis] else last
            out.append(slice(start, stop, None if stride is None else int(stride[axis])))
        return tuple(out)

    return index


def _slice_by_index(node: Node) -> Function:
    for name in ("x", "begin", "end"):
        node.take(name)
    index = _window(node)
    return lambda x, begin, end: x[index(begin, end)]


def _slice_update(node: Node) -> Function:
    for name in ("x", "update", "begin", "end"):
        node.take(name)
    index = _window(node)
    in_place = node.may_overwrite("x")

    def run(x: Array, update: Array, begin: Array, end: Array) -> Array:
        where = index(begin, end)
        if x[where].shape != update.shape:
            raise IndexError(f"slice {begin.tolist()}..{end.tolist()} of {x.shape} does not hold {update.shape}")
        result = x if in_place else x.copy()
        result[where] = update
        return result

    return run


def _identity(node: Node) -> Function:
    node.take("x")
    return lambda x: x


REARRANGING: dict[str, Builder] = {
    "cast": _cast,
    "gather": _gather,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "concat": _concat,
    "split": _split,
    "tile": _tile,
    "select": _select,
    "slice_by_index": _slice_by_index,
    "slice_update": _slice_update,
    "identity": _identity,
}
