"""NumPy arrays: the smallest target there can be, for nothing but to show what a target is made of."""

from __future__ import annotations

from edgekit.recipes.targets.base import Integers, Needs, Runtime, Target

TARGET = Target(
    name="arrays",
    artifact="model.npz",
    lowering="edgekit.export.targets.to_arrays",
    simulator="edgekit.simulate.on_arrays",
    needs=Needs(lower="numpy", run="numpy", extra="onnx"),
    runtime=Runtime("numpy", "numpy"),
    linears=(Integers(4, 1), Integers(8, 1)),
    tables=(Integers(4, 1), Integers(8, 1)),
    activations=("float",),
    settings=frozenset(),
    fine_group=0,
    scale_bytes=4,
    cache_bytes=4,
    shares_table=False,
    repacks=True,
)
