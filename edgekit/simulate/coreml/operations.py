"""The ML Program operations the simulator knows, by name. One that is not here is refused, never guessed."""

from __future__ import annotations

from edgekit.simulate.coreml.arithmetic import ARITHMETIC
from edgekit.simulate.coreml.node import Builder
from edgekit.simulate.coreml.rearranging import REARRANGING

OPERATIONS: dict[str, Builder] = {**ARITHMETIC, **REARRANGING}
