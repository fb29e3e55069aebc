"""Linears and embeddings as ONNX nodes: the recipe's integers packed as ONNX Runtime wants them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.export.targets.onnx_graph import Graph
from edgekit.policy.activations import runtime_block
from edgekit.quantize.integers import QuantizedEmbedding, QuantizedLinear

ACCURACY_LEVELS = {"float": 1, "int8_block": 4}
"""MatMulNBits' accuracy_level for the recipe's activations: float arithmetic, or 8-bit integers per block."""


def linear(graph: Graph, name: str, modules: Sequence[nn.Module], x: str) -> str:
    """x (..., in) times the weights of ``modules``, stacked -> (..., sum of outs). See :func:`can_stack`."""
    first = modules[0]
    biases = [m.bias for m in modules if isinstance(m, nn.Linear | QuantizedLinear) and m.bias is not None]
    bias = _stack(graph, f"{name}.bias", biases) if biases else ""
    if isinstance(first, QuantizedLinear):
        integers = [m for m in modules if isinstance(m, QuantizedLinear)]
        return _integer_linear(graph, name, integers, x, bias)
    weight = _stack(graph, f"{name}.weight", [m.weight for m in modules if isinstance(m, nn.Linear)])
    product = graph.node("FusedMatMul", [x, weight], f"{name}.matmul" if bias else name, transB=1)
    return graph.node("Add", [product, bias], name) if bias else product


def can_stack(modules: Sequence[nn.Module]) -> bool:
    """Whether one node can multiply them all: the same precision, and a bias for each or none."""
    kinds = set()
    for module in modules:
        assert isinstance(module, nn.Linear | QuantizedLinear)
        precision: tuple[object, ...] = ()
        if isinstance(module, QuantizedLinear):
            precision = (module.bits, module.values.shape[1] // module.scales.shape[1], module.activations)
        kinds.add((type(module), module.bias is None, precision))
    return len(kinds) == 1


def embedding(graph: Graph, name: str, module: nn.Module, head: nn.Module, head_name: str, ids: str) -> str:
    """Rows ``ids`` (batch, tokens) -> (batch, tokens, width); a table that is also the head's is stored once."""
    if isinstance(module, QuantizedEmbedding):
        shared = isinstance(head, QuantizedLinear) and module.values is head.values
        owner = head_name if shared else name
        values, scales, block = _pack(graph, owner, [module.values], [module.scales], module.bits)
        rows, blocks = module.values.shape[0], module.values.shape[1] // block
        width = np.array([rows, -1], np.int64)
        table = graph.node("Reshape", [values, graph.constant(f"{name}.table_shape", width)], f"{name}.table")
        scale = graph.node(
            "Reshape", [scales, graph.constant(f"{name}.scales_shape", np.array([rows, blocks]))], f"{name}.row_scales"
        )
        return graph.node(
            "GatherBlockQuantized",
            [table, ids, scale],
            name,
            bits=module.bits,
            block_size=block,
            gather_axis=0,
            quantize_axis=1,
        )
    assert isinstance(module, nn.Embedding)
    shared = isinstance(head, nn.Linear) and head.weight is module.weight
    table = _stack(graph, f"{head_name if shared else name}.weight", [module.weight])
    return graph.node("Gather", [table, ids], name, axis=0)


def pack_values(values: NDArray[np.int8], bits: int, block: int) -> NDArray[np.uint8]:
    """values (out, in) -> (out, in / block, block * bits / 8): offset by 2^(bits-1), 4 bits low nibble first."""
    offset = values.view(np.uint8) + np.uint8(2 ** (bits - 1))  # wraps as two's complement does
    if bits == 4:
        offset = offset[:, 0::2] | (offset[:, 1::2] << np.uint8(4))
    return offset.reshape(values.shape[0], values.shape[1] // block, block * bits // 8)


def _integer_linear(graph: Graph, name: str, modules: Sequence[QuantizedLinear], x: str, bias: str) -> str:
    bits, activations = modules[0].bits, modules[0].activations
    values, scales, block = _pack(graph, name, [m.values for m in modules], [m.scales for m in modules], bits)
    return graph.node(
        "MatMulNBits",
        [x, values, scales, *(["", "", bias] if bias else [])],
        name,
        K=modules[0].values.shape[1],
        N=sum(m.values.shape[0] for m in modules),
        bits=bits,
        block_size=block,
        accuracy_level=ACCURACY_LEVELS[activations],
    )


def _pack(
    graph: Graph, name: str, values: Sequence[Tensor], scales: Sequence[Tensor], bits: int
) -> tuple[str, str, int]:
    """Names of the packed integers (out, blocks, bytes) and scales (out * blocks) of stacked weights; the block."""
    width, groups = values[0].shape[1], scales[0].shape[1]
    block = runtime_block(width // groups)
    out, blocks = sum(v.shape[0] for v in values), width // block

    def packed() -> NDArray[np.uint8]:
        return np.concatenate([pack_values(v.numpy(), bits, block) for v in values])

    def spread() -> NDArray[np.float32]:
        return np.repeat(torch.cat(list(scales)).numpy(), blocks // groups, axis=1).reshape(-1)

    values_name = graph.weight(f"{name}.values", (out, blocks, block * bits // 8), np.uint8, packed)
    return values_name, graph.weight(f"{name}.scales", (out * blocks,), np.float32, spread), block


def _stack(graph: Graph, name: str, tensors: Sequence[Tensor]) -> str:
    """Float tensors below each other as one weight."""
    shape = (sum(t.shape[0] for t in tensors), *tensors[0].shape[1:])
    return graph.weight(name, shape, np.float32, lambda: torch.cat([t.detach() for t in tensors]).numpy())
