"""Core ML, an ML Program for iOS 18."""

from __future__ import annotations

from edgekit.recipes.targets.base import Integers, Needs, Runtime, Target

INTEGERS = (Integers(4, 1), Integers(8, 1), Integers(4, 1, palette=True))

TARGET = Target(
    name="coreml",
    artifact="model.mlpackage",
    lowering="edgekit.export.targets.to_coreml",
    simulator="edgekit.simulate.on_coreml",
    needs=Needs(lower="coremltools", run="coremltools", extra="coreml"),
    runtime=Runtime("Core ML (iOS 18)", "coremltools", form="coremltools {}"),
    linears=INTEGERS,
    tables=INTEGERS,
    activations=("float",),
    settings=frozenset({"compute", "prefill_chunk"}),
    fine_group=0,
    scale_bytes=None,
    cache_bytes=2,  # its states are float16 whatever it computes in
    shares_table=True,
    repacks=False,
)
