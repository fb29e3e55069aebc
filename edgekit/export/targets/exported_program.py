"""Reading and changing an exported program: its constants, calls with the fake values that later passes read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Graph, Node


def data_of(program: ExportedProgram, node: Node) -> Tensor:
    """The numbers of the buffer that the placeholder ``node`` stands for."""
    name = program.graph_signature.inputs_to_buffers[node.name]
    stored = program.state_dict if name in program.state_dict else program.constants
    return stored[name]


def add_constant(program: ExportedProgram, name: str, data: Tensor) -> Node:
    """The placeholder of a buffer ``name`` holding ``data``, made when first asked for."""
    graph = program.graph
    first = next(iter(graph.nodes))
    if name in program.state_dict:
        return next(node for node in graph.nodes if node.op == "placeholder" and node.target == name)
    program.state_dict[name] = data.contiguous()
    with graph.inserting_before(first):
        node = graph.create_node("placeholder", name, name=name)
    mode = next(n.meta["val"].fake_mode for n in graph.nodes if isinstance(n.meta.get("val"), Tensor))
    node.meta["val"] = mode.from_tensor(program.state_dict[name], static_shapes=True)
    spec = InputSpec(InputKind.BUFFER, TensorArgument(node.name), name, persistent=True)
    program.graph_signature.input_specs.insert(0, spec)
    return node


def add_number(program: ExportedProgram, value: float) -> Node:
    """A number as a tensor, as ExecuTorch's dialect wants."""
    name = f"number_{value}".replace(".", "_").replace("-", "_").replace("+", "_")
    return add_constant(program, name, torch.tensor(value))


def add_call(graph: Graph, target: Any, *args: Any, **kwargs: Any) -> Node:
    """Insert a call and give it the fake value later passes read."""
    node = graph.call_function(target, args, kwargs)
    values = torch.fx.map_arg(args, lambda argument: argument.meta["val"])
    node.meta["val"] = target(*values, **kwargs)
    return node


def drop_unused(program: ExportedProgram) -> None:
    """Drop parameters and buffers nothing reads any more: they would be in the file."""
    kept = []
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        if node.users or spec.kind is InputKind.USER_INPUT:
            kept.append(spec)
            continue
        program.graph.erase_node(node)
        program.state_dict.pop(spec.target, None)
        program.constants.pop(spec.target, None)
    program.graph_signature.input_specs[:] = kept
