"""ONNX, run by ONNX Runtime."""

from __future__ import annotations

from edgekit.recipes.targets.base import Integers, Needs, Runtime, Target

BLOCKS = 16
"""MatMulNBits and GatherBlockQuantized know blocks of 16, 32, 64 and 128 inputs; longer groups are cut into them."""

TARGET = Target(
    name="onnx",
    artifact="model.onnx",
    lowering="edgekit.export.targets.to_onnx",
    simulator="edgekit.simulate.on_onnxruntime",
    needs=Needs(lower="onnx", run="onnxruntime", extra="onnx"),
    runtime=Runtime("onnxruntime", "onnxruntime", untried="1.23 or newer"),
    linears=(Integers(4, BLOCKS), Integers(8, BLOCKS)),
    tables=(Integers(4, BLOCKS), Integers(8, BLOCKS)),
    activations=("float", "int8_block"),
    settings=frozenset({"layout"}),
    fine_group=32,
    scale_bytes=4,
    cache_bytes=4,
    shares_table=True,
    repacks=False,
    caches=("float", "int8"),
)
