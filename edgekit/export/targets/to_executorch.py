"""Lower a policy to one ExecuTorch file, its linears delegated to XNNPACK.

Each ``edgekit::quantized_linear`` of the captured program becomes the pattern XNNPACK knows: the input
rounded to 8 bits per token, the weight dequantized per group (4 bits) or per channel (8 bits). The KV
cache stays inside the program, as buffers it mutates.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import operator
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from edgekit.atomic_write import write_file
from edgekit.errors import BackendMissing, EdgekitError
from edgekit.export.capture import capture
from edgekit.export.recipe import ExportRecipe
from edgekit.policy.model import PolicyModel

ARTIFACT = "model.pte"


def missing() -> str | None:
    """None if this host can lower to ExecuTorch, else what to install."""
    absent = importlib.util.find_spec("executorch") is None
    return "executorch not installed: pip install 'edgekit[executorch]'" if absent else None


def runtime() -> dict[str, str]:
    """The runtime the file is made with."""
    try:
        version = importlib.metadata.version("executorch")
    except importlib.metadata.PackageNotFoundError:
        version = "1.4 or newer"
    return {"name": "executorch", "version": version}


def lower(model: PolicyModel, recipe: ExportRecipe, folder: Path) -> Path:
    """Write ``folder/model.pte`` and return its path.

    One method, ``forward(token_ids (1, tokens) int64, position (1,) int64) -> logits (1, vocab) float32``,
    serves prefill and decode. Raises BackendMissing without executorch, EdgekitError if XNNPACK cannot
    run a weight as the recipe has it.
    """
    absent = missing()
    if absent:
        raise BackendMissing(f"cannot export to ExecuTorch: {absent}.")
    program = capture(model, recipe.context_length, tokens=None, stateful=True)
    with _quiet():
        data = _compile(rewrite_linears(program))
    path = folder / ARTIFACT
    write_file(path, data)
    return path


def _compile(program: torch.export.ExportedProgram) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
    from executorch.exir.backend.backend_details import CompileSpec
    from executorch.exir.backend.partitioner import DelegationSpec

    partitioner = XnnpackPartitioner()
    # Without this key XNNPACK legalizes and prints the whole graph once per delegate.
    partitioner.delegation_spec = DelegationSpec(XnnpackBackend.__name__, [CompileSpec("dqlinear_partitioner", b"")])
    edge = to_edge_transform_and_lower(
        program,
        partitioner=[partitioner],
        compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
    )
    return bytes(edge.to_executorch().buffer)


def rewrite_linears(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Replace every quantized linear of ``program`` by XNNPACK's pattern, in place; returns the program."""
    import torch.ao.quantization.fx._decomposed

    graph = program.graph
    rounded: dict[Node, Node] = {}  # q, k and v share one rounded input, and so do gate and up
    for node in list(graph.nodes):
        if node.target is not torch.ops.edgekit.quantized_linear.default:
            continue
        x, values, scales, bits, activations = node.args
        _check(program, values, scales, bits, activations)
        with graph.inserting_before(node):
            if x not in rounded:
                rounded[x] = _round_tokens(graph, x)
            weight = _dequantize(program, values, scales, bits)
            linear = _call(graph, torch.ops.aten.linear.default, rounded[x], weight)
        node.replace_all_uses_with(linear)
        graph.erase_node(node)
    graph.lint()
    program.graph_module.recompile()
    return program


def _check(program: torch.export.ExportedProgram, values: Node, scales: Node, bits: int, activations: str) -> None:
    name = program.graph_signature.inputs_to_buffers[values.name].removesuffix(".values").removeprefix("policy.")
    if activations != "int8":
        raise EdgekitError(
            f"cannot lower {name} for XNNPACK: {activations} activations. It runs integer weights on 8-bit activations "
            "only. Set quantize.activations: int8."
        )
    groups = scales.meta["val"].shape[1]
    if bits == 8 and groups > 1:
        raise EdgekitError(
            f"cannot lower {name} for XNNPACK: 8 bits in groups. It has 8 bits per output channel only. "
            "Set group_size: 0."
        )
    group = values.meta["val"].shape[1] // groups
    if bits == 4 and group % 32:
        raise EdgekitError(
            f"cannot lower {name} for XNNPACK: group_size {group}. Its 4-bit groups are multiples of 32. "
            "Set group_size: 32."
        )


def _round_tokens(graph: Graph, x: Node) -> Node:
    ops = torch.ops.quantized_decomposed
    qparams = _call(graph, ops.choose_qparams_per_token_asymmetric.default, x, torch.int8)
    scale, zero = (_call(graph, operator.getitem, qparams, index) for index in (0, 1))
    integers = _call(graph, ops.quantize_per_token.default, x, scale, zero, -128, 127, torch.int8)
    return _call(graph, ops.dequantize_per_token.default, integers, scale, zero, -128, 127, torch.int8, torch.float32)


def _dequantize(program: torch.export.ExportedProgram, values: Node, scales: Node, bits: int) -> Node:
    ops, graph = torch.ops.quantized_decomposed, program.graph
    if bits == 4:
        zeros = _zeros(program, scales, torch.zeros_like(_buffer(program, scales), dtype=torch.int8))
        group = values.meta["val"].shape[1] // scales.meta["val"].shape[1]
        limits = (-8, 7, torch.int8, group, torch.float32)
        return _call(graph, ops.dequantize_per_channel_group.default, values, scales, zeros, *limits)
    if scales.meta["val"].dim() == 2:  # per channel, XNNPACK wants (out,)
        flat = _buffer(program, scales).squeeze(1)
        program.state_dict[program.graph_signature.inputs_to_buffers[scales.name]] = flat
        scales.meta["val"] = scales.meta["val"].squeeze(1)
    zeros = _zeros(program, scales, torch.zeros_like(_buffer(program, scales), dtype=torch.int64))
    return _call(graph, ops.dequantize_per_channel.default, values, scales, zeros, 0, -128, 127, torch.int8)


def _buffer(program: torch.export.ExportedProgram, node: Node) -> Tensor:
    return program.state_dict[program.graph_signature.inputs_to_buffers[node.name]]


def _zeros(program: torch.export.ExportedProgram, scales: Node, zeros: Tensor) -> Node:
    from executorch.backends.transforms.utils import create_constant_placeholder
    from torch.export.graph_signature import InputKind

    first = next(node for node in program.graph.nodes if node.op == "placeholder")
    with program.graph.inserting_before(first):
        return create_constant_placeholder(
            program, program.graph, f"{scales.name}_zeros", InputKind.BUFFER, zeros, persistent_buffer=True
        )


def _call(graph: Graph, target: Any, *args: Any) -> Node:
    """Insert a call and give it the fake value later passes read."""
    node = graph.call_function(target, args)
    values = torch.fx.map_arg(args, lambda argument: argument.meta["val"])
    node.meta["val"] = target(*values)
    return node


@contextmanager
def _quiet() -> Iterator[None]:
    """Lowering warns about its own internals, once per delegate."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
