"""ML Program operations in numpy, by name: what each does, with the types the program declares.

Elementwise float16 operations round their result to float16. Matrix products, attention, means and
the like accumulate in float32 and round once at the end, as a device with wide accumulators does.
Each builder reads its constant parameters once, at load time, and returns a function of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = Callable[..., Any]
"""(arrays, in the order taken) -> the output array, or a tuple of several."""


class Node(Protocol):
    """One operation being built. What a builder neither takes nor reads is refused afterwards."""

    outputs: int

    def take(self, name: str) -> None:
        """Make a tensor input the next argument of the function."""

    def take_all(self, name: str) -> None:
        """The same for every tensor of a variadic input."""

    def has(self, name: str) -> bool:
        """Whether the operation gives this input."""

    def constant(self, name: str, default: Any = ...) -> Any:
        """A constant input's value as numpy or str; ``default`` if absent, EdgekitError if required."""

    def refuse(self, why: str) -> Exception:
        """The error to raise for a parameter value the simulator cannot honour."""


CASTS: dict[str, type] = {
    "fp16": np.float16,
    "fp32": np.float32,
    "int32": np.int32,
    "int16": np.int16,
    "uint16": np.uint16,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}


def _wide(x: Array) -> Array:
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _binary(function: Callable[..., Array]) -> Callable[[Node], Function]:
    def build(node: Node) -> Function:
        node.take("x")
        node.take("y")
        return function

    return build


def _unary(function: Callable[[Array], Array]) -> Callable[[Node], Function]:
    """A float function computed in float32 and rounded to the type of its input."""

    def build(node: Node) -> Function:
        node.take("x")
        return lambda x: function(_wide(x)).astype(x.dtype)

    return build


def _silu(x: Array) -> Array:
    with np.errstate(over="ignore"):  # exp of a large number is inf, and 1 / inf is the right 0
        return x / (1 + np.exp(-x))


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def _rsqrt(node: Node) -> Function:
    node.take("x")
    epsilon = np.float32(node.constant("epsilon", 1e-12))
    return lambda x: (1 / np.sqrt(_wide(x) + epsilon)).astype(x.dtype)


def _reduce(function: Callable[..., Array]) -> Callable[[Node], Function]:
    def build(node: Node) -> Function:
        node.take("x")
        axes = node.constant("axes", None)
        axis = None if axes is None else tuple(int(a) for a in axes)
        keep = bool(node.constant("keep_dims", False))
        return lambda x: function(_wide(x), axis=axis, keepdims=keep).astype(x.dtype)

    return build


def _softmax_last(x: Array) -> Array:
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _softmax(node: Node) -> Function:
    node.take("x")
    if int(node.constant("axis", -1)) != -1:
        raise node.refuse("an axis other than the last")
    return lambda x: _softmax_last(_wide(x)).astype(x.dtype)


def _linear(node: Node) -> Function:
    node.take("x")
    weight = np.ascontiguousarray(_wide(node.constant("weight")).T)  # widened once, here
    bias = node.constant("bias", None)
    if bias is None or not bias.any():
        return lambda x: (_wide(x) @ weight).astype(x.dtype)
    shift = _wide(bias)
    return lambda x: (_wide(x) @ weight + shift).astype(x.dtype)


def _matmul(node: Node) -> Function:
    node.take("x")
    node.take("y")
    turn_x, turn_y = bool(node.constant("transpose_x", False)), bool(node.constant("transpose_y", False))

    def run(x: Array, y: Array) -> Array:
        a, b = _wide(x), _wide(y)
        product = (np.swapaxes(a, -1, -2) if turn_x else a) @ (np.swapaxes(b, -1, -2) if turn_y else b)
        return product.astype(x.dtype)

    return run


def _attention(node: Node) -> Function:
    for name in ("query", "key", "value"):
        node.take(name)
    masked = node.has("attn_mask")
    if masked:
        node.take("attn_mask")

    def run(query: Array, key: Array, value: Array, mask: Array | None = None) -> Array:
        scale = np.float32(query.shape[-1] ** -0.5)
        scores = (_wide(query) * scale) @ np.swapaxes(_wide(key), -1, -2)
        if mask is not None:
            scores = np.where(mask, scores, np.float32(-np.inf)) if mask.dtype == np.bool_ else scores + mask
        return (_softmax_last(scores) @ _wide(value)).astype(query.dtype)

    return run


def _cast(node: Node) -> Function:
    node.take("x")
    name = str(node.constant("dtype"))
    if name not in CASTS:
        raise node.refuse(f"dtype {name}")
    dtype = CASTS[name]
    return lambda x: x.astype(dtype)


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
    if node.has("split_sizes"):
        node.constant("num_splits", None)
        cuts = np.cumsum(node.constant("split_sizes"))[:-1].tolist()
        return lambda x: tuple(np.split(x, cuts, axis))
    count = int(node.constant("num_splits"))
    return lambda x: tuple(np.split(x, count, axis))


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

    def run(x: Array, update: Array, begin: Array, end: Array) -> Array:
        where = index(begin, end)
        if x[where].shape != update.shape:
            raise IndexError(f"slice {begin.tolist()}..{end.tolist()} of {x.shape} does not hold {update.shape}")
        result = x.copy()
        result[where] = update
        return result

    return run


def _blockwise_shift_scale(node: Node) -> Function:
    """scale * (data - offset), every scale (and offset) standing for one block along each axis."""
    node.take("data")
    node.take("scale")
    if node.has("offset"):
        node.take("offset")

    def run(data: Array, scale: Array, offset: Array | None = None) -> Array:
        def spread(x: Array) -> Array:
            for axis, size in enumerate(data.shape):
                if size % x.shape[axis]:
                    raise ValueError(f"blocks {x.shape} do not divide {data.shape}")
                x = np.repeat(x, size // x.shape[axis], axis)
            return x

        shifted = data.astype(np.float32)
        if offset is not None:
            shifted = shifted - spread(offset).astype(np.float32)
        return (shifted * spread(scale).astype(np.float32)).astype(scale.dtype)

    return run


def _identity(node: Node) -> Function:
    node.take("x")
    return lambda x: x


OPERATIONS: dict[str, Callable[[Node], Function]] = {
    "add": _binary(np.add),
    "sub": _binary(np.subtract),
    "mul": _binary(np.multiply),
    "real_div": _binary(np.divide),
    "pow": _binary(np.power),
    "maximum": _binary(np.maximum),
    "minimum": _binary(np.minimum),
    "equal": _binary(np.equal),
    "not_equal": _binary(np.not_equal),
    "greater": _binary(np.greater),
    "greater_equal": _binary(np.greater_equal),
    "less": _binary(np.less),
    "less_equal": _binary(np.less_equal),
    "logical_and": _binary(np.logical_and),
    "logical_or": _binary(np.logical_or),
    "cos": _unary(np.cos),
    "sin": _unary(np.sin),
    "exp": _unary(np.exp),
    "sqrt": _unary(np.sqrt),
    "silu": _unary(_silu),
    "sigmoid": _unary(_sigmoid),
    "rsqrt": _rsqrt,
    "softmax": _softmax,
    "reduce_mean": _reduce(np.mean),
    "reduce_sum": _reduce(np.sum),
    "linear": _linear,
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
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
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "identity": _identity,
}
