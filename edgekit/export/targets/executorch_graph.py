"""Rewrite a captured policy into the operators XNNPACK fuses, so that a whole block becomes one delegate.

Integer linears become the quantize-dequantize pattern XNNPACK knows. What XNNPACK would refuse at a dynamic
length is said in other words: a mean, and the half-turn of rotary positions, as products with a constant matrix.
Nothing here rounds a weight again. The result is functional and needs no decomposition: ExecuTorch's own way
there traces the model again and again, which is most of its export time.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind, OutputSpec, TensorArgument
from torch.fx import Graph, Node

from edgekit.export.targets.exported_program import add_call, add_constant, add_number, data_of, drop_unused

aten = torch.ops.aten
Call = Any  # an fx Node whose arguments are known by its operator: fx types them as anything


def rewrite(program: ExportedProgram, context_length: int) -> ExportedProgram:
    """Rewrite ``program`` in place; returns it."""
    import torch.ao.quantization.fx._decomposed  # registers the quantized operators

    rounded: dict[Node, Node] = {}  # q, k and v share one rounded input, and so do gate and up
    rewriters: dict[Any, Callable[[ExportedProgram, Node], Node | None]] = {
        torch.ops.edgekit.quantized_linear.default: lambda p, n: _linear(p, n, rounded),
        torch.ops.edgekit.quantized_embedding.default: _embedding,
        aten.mean.dim: _mean,
        aten.cat.default: _half_turn,
        aten.transpose.int: _transpose,
        aten.view.default: _view,
        aten.reshape.default: _view,
        aten.index.Tensor: lambda p, n: _table_rows(p, n, context_length),
        aten.add.Tensor: _add,
        aten.mul.Tensor: lambda p, n: _with_number(p, n, aten.mul.Tensor),
        aten.sub.Tensor: lambda p, n: _with_number(p, n, aten.sub.Tensor),
        aten.silu.default: _silu,
        aten.gelu.default: _gelu,
        aten.select.int: lambda p, n: _renamed(p, n, aten.select_copy.int),
        aten.unsqueeze.default: lambda p, n: _renamed(p, n, aten.unsqueeze_copy.default),
        aten.item.default: lambda p, n: _renamed(p, n, aten._local_scalar_dense.default),
        aten.arange.default: lambda p, n: _renamed(p, n, aten.arange.start_step, 0),
    }
    for node in list(program.graph.nodes):
        rewriter = rewriters.get(node.target)
        if rewriter is None:
            continue
        with program.graph.inserting_before(node):
            replacement = rewriter(program, node)
        if replacement is not None:
            node.replace_all_uses_with(replacement)
            program.graph.erase_node(node)
    _return_caches(program)
    for node in reversed(program.graph.nodes):
        if node.op == "call_function" and not node.users:  # assertions too: the operators check positions themselves
            program.graph.erase_node(node)
    drop_unused(program)
    _separate_constants(program)
    program.graph.lint()
    program.graph_module.recompile()
    return program


def stages(program: ExportedProgram, supported: set[Node]) -> list[list[Node]]:
    """The ``supported`` nodes, calls and the constants they own, by the delegate that runs them.

    A call's stage counts the changes from unsupported to supported calls on the way to it, so that no
    delegate waits for itself. What is made of constants alone belongs to the stage that reads it.
    """
    stage: dict[Node, int] = {}
    constant: set[Node] = set()
    for node in program.graph.nodes:
        if node in supported and constant.issuperset(node.all_input_nodes):
            constant.add(node)
        elif node.op == "call_function":
            before = [n for n in node.all_input_nodes if n in stage]
            stage[node] = max((stage[n] + (node in supported and n not in supported) for n in before), default=0)
    members: dict[int, list[Node]] = {}
    for node in reversed(program.graph.nodes):
        if node in constant:
            stage[node] = min(stage[user] for user in node.users)
        if node in supported:
            members.setdefault(stage[node], []).append(node)
    return [nodes[::-1] for nodes in members.values()]


def _linear(program: ExportedProgram, node: Call, rounded: dict[Node, Node]) -> Node:
    graph = program.graph
    x, values, scales, bits, activations = node.args
    assert activations == "int8", activations
    if x not in rounded:
        rounded[x] = _round_tokens(graph, x)
    return add_call(graph, aten.linear.default, rounded[x], _dequantize(program, values, scales, bits))


def _round_tokens(graph: Graph, x: Node) -> Node:
    ops = torch.ops.quantized_decomposed
    qparams = add_call(graph, ops.choose_qparams_per_token_asymmetric.default, x, torch.int8)
    scale, zero = (add_call(graph, operator.getitem, qparams, index) for index in (0, 1))
    integers = add_call(graph, ops.quantize_per_token.default, x, scale, zero, -128, 127, torch.int8)
    return add_call(
        graph, ops.dequantize_per_token.default, integers, scale, zero, -128, 127, torch.int8, torch.float32
    )


def _dequantize(program: ExportedProgram, values: Call, scales: Call, bits: int) -> Node:
    ops, graph = torch.ops.quantized_decomposed, program.graph
    data = data_of(program, scales)
    if bits == 4:
        zeros = add_constant(program, "zeros_{}_{}".format(*data.shape), torch.zeros_like(data, dtype=torch.int8))
        limits = (-8, 7, torch.int8, values.meta["val"].shape[1] // data.shape[1], torch.float32)
        return add_call(graph, ops.dequantize_per_channel_group.default, values, scales, zeros, *limits)
    channels = add_constant(program, f"{scales.name}_channels", data.squeeze(1))
    zeros = add_constant(program, f"zeros_{len(data)}", torch.zeros(len(data), dtype=torch.int64))
    return add_call(graph, ops.dequantize_per_channel.default, values, channels, zeros, 0, -128, 127, torch.int8)


def _embedding(program: ExportedProgram, node: Call) -> Node:
    """The runtime's own lookup: rows of 8 bits as they are, of 4 bits two values a byte, the even one high."""
    ops = torch.ops.quantized_decomposed
    ids, values, scales, bits = node.args
    # Scales have 8 significant bits and are normal float16s: this halves them without rounding.
    halves = add_constant(program, f"{scales.name}_half", data_of(program, scales).half())
    if bits == 8:
        return add_call(
            program.graph, ops.embedding_byte.dtype, values, halves, None, -128, 127, ids, dtype=torch.float32
        )
    shifted = (data_of(program, values) + 8).view(torch.uint8)
    packed = add_constant(program, f"{values.name}_packed", shifted[:, 0::2] << 4 | shifted[:, 1::2])
    return add_call(program.graph, ops.embedding_4bit.dtype, packed, halves, None, -8, 7, ids, dtype=torch.float32)


def _mean(program: ExportedProgram, node: Call) -> Node:
    """mean(x, -1, keepdim) = x @ (1/n, ..., 1/n): XNNPACK has no mean over the last axis alone."""
    width = node.args[0].meta["val"].shape[-1]
    weights = add_constant(program, f"mean_{width}", torch.full((1, width), 1.0 / width))
    return add_call(program.graph, aten.linear.default, node.args[0], weights)


def _half_turn(program: ExportedProgram, node: Call) -> Node | None:
    """cat(-second half, first half) = x @ a signed permutation: XNNPACK cannot slice at a dynamic length."""
    turned, first, *rest = node.args[0]
    if turned.target is not aten.neg.default or first.target is not operator.getitem:
        return None
    x = first.args[0].args[0]
    width, half = x.meta["val"].shape[-1], first.meta["val"].shape[-1]
    upper = torch.eye(half)
    zero = torch.zeros_like(upper)
    matrix = torch.zeros(width, width)  # what follows the two halves does not turn: its sin is 0
    matrix[: 2 * half, : 2 * half] = torch.cat([torch.cat([zero, -upper], dim=1), torch.cat([upper, zero], dim=1)])
    name = f"half_turn_{width}" + (f"_{half}" if rest else "")
    return add_call(program.graph, aten.linear.default, x, add_constant(program, name, matrix))


def _transpose(program: ExportedProgram, node: Call) -> Node | None:  # noqa: ARG001
    """Two equal transposes in a row are none."""
    inner = node.args[0]
    return inner.args[0] if inner.target is node.target and inner.args[1:] == node.args[1:] else None


def _view(program: ExportedProgram, node: Call) -> Node:
    """A view whose one dynamic size is inferred: XNNPACK takes no symbol there."""
    shape = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
    return add_call(program.graph, aten.view_copy.default, node.args[0], shape)


def _add(program: ExportedProgram, node: Call) -> Node | None:
    """A bias goes into its product; a number becomes a tensor, as ExecuTorch's dialect wants."""
    x, other = node.args
    if not isinstance(other, Node):
        return add_call(program.graph, aten.add.Tensor, x, add_number(program, other))
    product = x.target is aten.linear.default and len(x.args) == 2 and len(x.users) == 1
    if not product or other.name not in program.graph_signature.inputs_to_parameters:
        return None
    x.args = (*x.args, other)
    return x


def _with_number(program: ExportedProgram, node: Call, target: Any) -> Node | None:
    x, other = node.args
    return None if isinstance(other, Node) else add_call(program.graph, target, x, add_number(program, other))


def _silu(program: ExportedProgram, node: Call) -> Node:
    (x,) = node.args
    return _gated(program, x, x)


def _gelu(program: ExportedProgram, node: Call) -> Node | None:
    """XNNPACK's is the exact one, whatever is asked for: 1 + tanh(y) = 2 sigmoid(2 y) says the other in its words."""
    if node.kwargs.get("approximate", "none") == "none":
        return None
    graph, (x,) = program.graph, node.args
    square = add_call(graph, aten.mul.Tensor, x, x)
    bent = add_call(graph, aten.mul.Tensor, square, add_number(program, 0.044715))
    bent = add_call(graph, aten.add.Tensor, bent, add_number(program, 1.0))
    slope = add_call(graph, aten.mul.Tensor, x, add_number(program, 2 * math.sqrt(2 / math.pi)))
    return _gated(program, x, add_call(graph, aten.mul.Tensor, slope, bent))


def _gated(program: ExportedProgram, x: Node, gate: Node) -> Node:
    """x * sigmoid(gate)."""
    return add_call(program.graph, aten.mul.Tensor, x, add_call(program.graph, aten.sigmoid.default, gate))


def _renamed(program: ExportedProgram, node: Call, target: Any, *first: Any) -> Node:
    """The same call of another operator, with ``first`` before its arguments."""
    renamed = program.graph.call_function(target, (*first, *node.args), dict(node.kwargs))
    renamed.meta["val"] = node.meta["val"]
    return renamed


def _table_rows(program: ExportedProgram, node: Call, context_length: int) -> Node:
    """Rows of a table of positions, cut to those the cache can hold, as an embedding: one copy a row.

    Rotary tables hold each angle twice: the file has it once.
    """
    table, (rows,) = node.args
    data = data_of(program, table)[:context_length]
    first, second = data.chunk(2, dim=1)
    if not torch.equal(first, second):
        return add_call(program.graph, aten.embedding.default, add_constant(program, f"{table.name}_rows", data), rows)
    half = add_call(program.graph, aten.embedding.default, add_constant(program, f"{table.name}_rows", first), rows)
    return add_call(program.graph, aten.cat.default, [half, half], -1)


def _return_caches(program: ExportedProgram) -> None:
    """Make cache writes functional: each write's result is what attention reads and what the buffer becomes."""
    graph, written = program.graph, []
    for node in list(graph.nodes):
        if node.target is not torch.ops.llama.update_cache.default:
            continue
        new, cache, start = node.args
        with graph.inserting_before(node):
            write = graph.call_function(
                torch.ops.higher_order.auto_functionalized_v2,
                (node.target,),
                {"value": new, "start_pos": start, "_cache_base_index": 0, "_all_bases": [cache]},
            )
            write.meta["val"] = (node.meta["val"], cache.meta["val"])
            after = graph.call_function(operator.getitem, (write, 1))
            after.meta["val"] = cache.meta["val"]
        cache.replace_all_uses_with(after, delete_user_cb=lambda user, keep={write, node}: user not in keep)
        graph.erase_node(node)
        written.append((after, cache))
    output = graph.output_node()
    (logits,) = output.args[0]
    output.args = ((*(after for after, _ in written), logits),)
    buffers = program.graph_signature.inputs_to_buffers
    program.graph_signature.output_specs[:] = [
        *(
            OutputSpec(OutputKind.BUFFER_MUTATION, TensorArgument(after.name), buffers[cache.name])
            for after, cache in written
        ),
        OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(logits.name), None),
    ]


def _separate_constants(program: ExportedProgram) -> None:
    """Give each block its own placeholder of a product's constant: a delegate owns it, and the file still has one."""
    made_here = {spec.target: spec.arg.name for spec in program.graph_signature.input_specs if spec.persistent}
    block = 0
    first_reader: dict[Node, int] = {}
    for node in list(program.graph.nodes):
        block += node.target is torch.ops.llama.custom_sdpa.default
        if node.op != "call_function" or node.target in (aten.add.Tensor, aten.mul.Tensor):
            continue
        for constant in node.all_input_nodes:
            if constant.op != "placeholder" or made_here.get(str(constant.target)) != constant.name:
                continue
            if first_reader.setdefault(constant, block) != block:
                copy = add_constant(
                    program, f"{constant.target}_block_{block}", program.state_dict[str(constant.target)]
                )
                node.replace_input_with(constant, copy)
