"""Arithmetic of ML Programs in numpy.

Everything computes in float32, on halves held wide (:mod:`edgekit.simulate.coreml.half`); the loader
rounds each result that the program declares float16. So elementwise operations round like float16's,
and matrix products, attention, means and the like accumulate in float32 and round once at the end, as
a device with wide accumulators does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgekit.simulate.coreml.node import Array, Builder, Function, Node


def _binary(function: Callable[..., Array]) -> Callable[[Node], Function]:
    def build(node: Node) -> Function:
        node.take("x")
        node.take("y")
        return function

    return build


def _unary(function: Callable[[Array], Array]) -> Callable[[Node], Function]:
    def build(node: Node) -> Function:
        node.take("x")
        return function

    return build


def _silu(x: Array) -> Array:
    below: Array = np.exp(-x)  # of a large negative number inf, and x / inf is the right 0
    below += 1
    return np.divide(x, below, out=below)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _relu(x: Array) -> Array:
    return np.maximum(x, np.float32(0))


def _gelu(node: Node) -> Function:
    node.take("x")
    mode = str(node.constant("mode", "EXACT"))
    if mode == "TANH_APPROXIMATION":
        slope, bend = np.float32(np.sqrt(2 / np.pi)), np.float32(0.044715)
        return lambda x: x / 2 * (1 + np.tanh(slope * (x + bend * x**3)))
    if mode == "SIGMOID_APPROXIMATION":
        return lambda x: x * _sigmoid(np.float32(1.702) * x)
    erf = np.frompyfunc(math.erf, 1, 1)
    return lambda x: x / 2 * (1 + erf(x / np.sqrt(2)).astype(np.float32))


def _rsqrt(node: Node) -> Function:
    node.take("x")
    epsilon = np.float32(node.constant("epsilon", 1e-12))
    return lambda x: 1 / np.sqrt(x + epsilon)


def _reduce(function: Callable[..., Array]) -> Callable[[Node], Function]:
    def build(node: Node) -> Function:
        node.take("x")
        axes = node.constant("axes", None)
        axis = None if axes is None else tuple(int(a) for a in axes)
        keep = bool(node.constant("keep_dims", False))
        return lambda x: function(x, axis=axis, keepdims=keep)

    return build


def _mean(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    total: Array = np.sum(x, axis=axis, keepdims=keepdims)
    return total / np.float32(x.size // total.size)


def _softmax_last(x: Array) -> Array:
    weights: Array = np.subtract(x, x.max(-1, keepdims=True))
    np.exp(weights, out=weights)
    weights /= weights.sum(-1, keepdims=True)
    return weights


def _softmax(node: Node) -> Function:
    node.take("x")
    if int(node.constant("axis", -1)) != -1:
        raise node.refuse("an axis other than the last")
    return _softmax_last


def _linear(node: Node) -> Function:
    node.take("x")
    weight = node.constant("weight").T  # a view: BLAS takes it as it lies
    inputs, outputs = weight.shape
    bias = node.constant("bias", None)
    shift = None if bias is None or not bias.any() else bias

    def run(x: Array) -> Array:
        y: Array = x.reshape(-1, inputs) @ weight
        if shift is not None:
            y += shift
        return y.reshape(*x.shape[:-1], outputs)

    return run


def _matmul(node: Node) -> Function:
    node.take("x")
    node.take("y")
    turn_x, turn_y = bool(node.constant("transpose_x", False)), bool(node.constant("transpose_y", False))

    def run(x: Array, y: Array) -> Array:
        return np.matmul(np.swapaxes(x, -1, -2) if turn_x else x, np.swapaxes(y, -1, -2) if turn_y else y)

    return run


def _attention(node: Node) -> Function:
    for name in ("query", "key", "value"):
        node.take(name)
    if node.has("attn_mask"):
        node.take("attn_mask")

    def run(query: Array, key: Array, value: Array, mask: Array | None = None) -> Array:
        if mask is not None and mask.dtype == np.bool_:
            # Slots that no query sees weigh exactly 0; leaving them out makes a half-empty cache cheap.
            seen = np.flatnonzero(mask.reshape(-1, mask.shape[-1]).any(0))
            if seen.size:
                slots = slice(int(seen[0]), int(seen[-1]) + 1)
                key, value, mask = key[..., slots, :], value[..., slots, :], mask[..., slots]
        scores = (query * np.float32(query.shape[-1] ** -0.5)) @ np.swapaxes(key, -1, -2)
        if mask is not None:
            scores = np.where(mask, scores, np.float32(-np.inf)) if mask.dtype == np.bool_ else scores + mask
        return np.matmul(_softmax_last(scores), value)

    return run


def _blockwise_shift_scale(node: Node) -> Function:
    """scale * (data - offset), every scale (and offset) standing for one block along each axis."""
    node.take("data")
    node.take("scale")
    if node.has("offset"):
        node.take("offset")

    def run(data: Array, scale: Array, offset: Array | None = None) -> Array:
        # Every axis in two, (blocks, size of one), so that scales broadcast instead of being repeated.
        if any(size % count for size, count in zip(data.shape, scale.shape, strict=True)):
            raise ValueError(f"blocks {scale.shape} do not divide {data.shape}")
        pairs = [n for size, count in zip(data.shape, scale.shape, strict=True) for n in (count, size // count)]
        each = [n for count in scale.shape for n in (count, 1)]
        weight: Array = data.reshape(pairs).astype(np.float32)
        if offset is not None:
            weight -= offset.reshape(each)
        weight *= scale.reshape(each)
        return weight.reshape(data.shape)

    return run


def _lut_to_dense(node: Node) -> Function:
    """Each index chooses from its block's table; lut (*blocks along each axis, colours, 1)."""
    node.take("indices")
    node.take("lut")

    def run(indices: Array, lut: Array) -> Array:
        if lut.shape[-1] != 1:
            raise ValueError(f"a palette of vectors {lut.shape}")
        blocks, colours = lut.shape[:-2], lut.shape[-2]
        # Number the tables, spread the numbers over the weight, and look up in all tables laid end to end.
        place = np.arange(int(np.prod(blocks)), dtype=np.int32).reshape(blocks) * np.int32(colours)
        for axis, size in enumerate(indices.shape):
            if size % blocks[axis]:
                raise ValueError(f"blocks {blocks} do not divide {indices.shape}")
            place = np.repeat(place, size // blocks[axis], axis) if blocks[axis] > 1 else place
        return np.take(lut.reshape(-1), place + indices)

    return run


ARITHMETIC: dict[str, Builder] = {
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
    "relu": _unary(_relu),
    "gelu": _gelu,
    "rsqrt": _rsqrt,
    "softmax": _softmax,
    "reduce_mean": _reduce(_mean),
    "reduce_sum": _reduce(np.sum),
    "linear": _linear,
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_lut_to_dense": _lut_to_dense,
}
