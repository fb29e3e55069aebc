"""Arithmetic of ML Programs in numpy, with the types the program declares.

Elementwise float16 operations round their result to float16. Matrix products, attention, means and
the like accumulate in float32 and round once at the end, as a device with wide accumulators does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.simulate.coreml.node import Array, Builder, Function, Node


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
        if mask is not None and mask.dtype == np.bool_:
            # Slots that no query sees weigh exactly 0; leaving them out makes a half-empty cache cheap.
            seen = np.flatnonzero(mask.reshape(-1, mask.shape[-1]).any(0))
            if seen.size:
                end = int(seen[-1]) + 1
                key, value, mask = key[..., :end, :], value[..., :end, :], mask[..., :end]
        scale = np.float32(query.shape[-1] ** -0.5)
        scores = (_wide(query) * scale) @ np.swapaxes(_wide(key), -1, -2)
        if mask is not None:
            scores = np.where(mask, scores, np.float32(-np.inf)) if mask.dtype == np.bool_ else scores + mask
        return (_softmax_last(scores) @ _wide(value)).astype(query.dtype)

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
    "rsqrt": _rsqrt,
    "softmax": _softmax,
    "reduce_mean": _reduce(np.mean),
    "reduce_sum": _reduce(np.sum),
    "linear": _linear,
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
}
