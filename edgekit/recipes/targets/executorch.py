"""ExecuTorch with XNNPACK."""

from __future__ import annotations

from edgekit.recipes.targets.base import Integers, Needs, Runtime, Target

TARGET = Target(
    name="executorch",
    artifact="model.pte",
    lowering="edgekit.export.targets.to_executorch",
    simulator="edgekit.simulate.on_executorch",
    needs=Needs(lower="executorch", run="executorch", extra="executorch"),
    runtime=Runtime("executorch", "executorch", untried="1.4 or newer"),
    linears=(Integers(4, 32), Integers(8, 0)),
    tables=(Integers(4, 2), Integers(8, 1)),  # 4 bits lie two to a byte
    activations=("int8",),
    settings=frozenset(),
    fine_group=0,
    scale_bytes=2,
    cache_bytes=4,
    shares_table=False,  # XNNPACK packs the head for itself
    repacks=True,
)
