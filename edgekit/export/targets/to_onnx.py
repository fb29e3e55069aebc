"""Lower a policy to one ONNX file for ONNX Runtime.

The captured program is translated by PyTorch's exporter with each integer linear as one node, which
is then replaced by ``com.microsoft::MatMulNBits`` holding the very integers and scales of the recipe.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.atomic_write import write_file
from edgekit.errors import BackendMissing, EdgekitError
from edgekit.export.capture import capture
from edgekit.export.recipe import ExportRecipe
from edgekit.policy.model import PolicyModel

ARTIFACT = "model.onnx"
OPSET = 20
MARKED = "QuantizedLinear"
"""Name of the placeholder node, in the domain ``edgekit``, between translation and packing."""


def missing() -> str | None:
    """None if this host can lower to ONNX, else what to install."""
    absent = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} not installed: pip install 'edgekit[onnx]'" if absent else None


def runtime() -> dict[str, str]:
    """The runtime the file is made for."""
    try:
        version = importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        version = "1.22 or newer"
    return {"name": "onnxruntime", "version": version}


def lower(model: PolicyModel, recipe: ExportRecipe, folder: Path) -> Path:
    """Write ``folder/model.onnx`` and return its path.

    Inputs: input_ids (1, tokens) int64, position (1,) int64, past_key_N and past_value_N (1, kv_heads,
    context_length, head_dim) float32. Outputs: logits (1, vocab) float32, present_key_N and
    present_value_N. Raises BackendMissing without onnx, EdgekitError if a weight cannot be packed.
    """
    absent = missing()
    if absent:
        raise BackendMissing(f"cannot export to ONNX: {absent}.")
    program = capture(model, recipe.context_length, tokens=None, stateful=False)
    onnx_model = _translate(program)
    _name_interface(onnx_model, model.config.num_hidden_layers)
    _pack_linears(onnx_model)
    _strip_notes(onnx_model)
    path = folder / ARTIFACT
    write_file(path, onnx_model.SerializeToString())
    return path


def block_size(group_size: int) -> int:
    """The MatMulNBits block that divides ``group_size``: a power of two from 16 to 128. EdgekitError if none."""
    block = min(group_size & -group_size, 128)
    if block < 16:
        raise EdgekitError(
            f"cannot pack for ONNX Runtime: group of {group_size} inputs. MatMulNBits needs groups that are "
            "multiples of 16. Choose another group_size, or 16 or 32 bits for this weight."
        )
    return block


def pack_values(values: NDArray[np.int8], bits: int, block: int) -> NDArray[np.uint8]:
    """values (out, in) -> (out, in / block, block * bits / 8): offset by 2^(bits-1), 4 bits low nibble first."""
    offset = (values.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    if bits == 4:
        offset = offset[:, 0::2] | (offset[:, 1::2] << 4)
    return offset.reshape(values.shape[0], values.shape[1] // block, block * bits // 8)


def unpack_values(packed: NDArray[np.uint8], bits: int) -> NDArray[np.int8]:
    """The inverse of :func:`pack_values`: (out, blocks, bytes) -> (out, in)."""
    flat = packed.reshape(packed.shape[0], -1)
    if bits == 4:
        flat = np.stack([flat & 15, flat >> 4], axis=-1).reshape(flat.shape[0], -1)
    return (flat.astype(np.int16) - 2 ** (bits - 1)).astype(np.int8)


def _translate(program: torch.export.ExportedProgram) -> Any:
    """The program as an ONNX ModelProto whose integer linears are ``edgekit::QuantizedLinear`` nodes."""
    from onnx.defs import OpSchema
    from onnxscript.values import Op, Opset

    formal, attribute = OpSchema.FormalParameter, OpSchema.Attribute
    schema = OpSchema(
        MARKED,
        "edgekit",
        1,
        inputs=[formal("x", "F"), formal("values", "I"), formal("scales", "F")],
        outputs=[formal("y", "F")],
        type_constraints=[("F", ["tensor(float)"], ""), ("I", ["tensor(int8)"], "")],
        attributes=[attribute("bits", OpSchema.AttrType.INT), attribute("activations", OpSchema.AttrType.STRING)],
    )
    node = Op(Opset("edgekit", 1), MARKED, schema)

    def translate(x: Any, values: Any, scales: Any, bits: int, activations: str) -> Any:
        return node(x, values, scales, bits=bits, activations=activations)

    with _quiet():
        result = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
            custom_translation_table={torch.ops.edgekit.quantized_linear.default: translate},
        )
    assert result is not None  # dynamo=True always returns a program
    return result.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports every operator library it did not find; none is needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _name_interface(onnx_model: Any, layers: int) -> None:
    """Rename inputs, outputs and the dynamic dimension to what a phone's programmer can read."""
    kinds = [(kind, layer) for layer in range(layers) for kind in ("key", "value")]
    inputs = ["input_ids", "position", *(f"past_{kind}_{layer}" for kind, layer in kinds)]
    outputs = ["logits", *(f"present_{kind}_{layer}" for kind, layer in kinds)]
    graph = onnx_model.graph
    renamed = {old.name: new for old, new in zip(graph.input, inputs, strict=True)}
    renamed |= {old.name: new for old, new in zip(graph.output, outputs, strict=True)}
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = renamed.get(value.name, value.name)
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.HasField("dim_param"):
                dimension.dim_param = "tokens"
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]


def _pack_linears(onnx_model: Any) -> None:
    """Replace every marked node by MatMulNBits and its weights by packed ones."""
    from onnx import helper, numpy_helper

    graph = onnx_model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    packed: dict[str, Any] = {}
    for node in graph.node:
        if node.op_type != MARKED:
            continue
        x, values_name, scales_name = node.input
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        bits, activations = attributes["bits"], attributes["activations"].decode()
        values = numpy_helper.to_array(tensors[values_name])
        scales = numpy_helper.to_array(tensors[scales_name])
        group = values.shape[1] // scales.shape[1]
        block = block_size(group)
        data = pack_values(values, bits, block)
        spread = np.repeat(scales, group // block, axis=1)
        weight_name, scale_name = values_name.removesuffix(".values") + ".packed", scales_name
        packed[weight_name] = numpy_helper.from_array(data, weight_name)
        packed[scale_name] = numpy_helper.from_array(spread.reshape(-1), scale_name)
        node.CopyFrom(
            helper.make_node(
                "MatMulNBits",
                [x, weight_name, scale_name],
                list(node.output),
                name=weight_name.removesuffix(".packed"),
                domain="com.microsoft",
                K=values.shape[1],
                N=values.shape[0],
                bits=bits,
                block_size=block,
                accuracy_level=4 if activations == "int8_block" else 1,
            )
        )
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for name, tensor in tensors.items() if name in used and name not in packed]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *packed.values()])
    others = [opset for opset in onnx_model.opset_import if opset.domain != "edgekit"]
    del onnx_model.opset_import[:]
    onnx_model.opset_import.extend(others)
    if packed:
        onnx_model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _strip_notes(onnx_model: Any) -> None:
    """Remove the exporter's notes: they hold this machine's paths and outweigh a small policy's weights."""
    graph = onnx_model.graph
    for item in (onnx_model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    del graph.value_info[:]  # shapes of intermediate values; the runtime infers them
