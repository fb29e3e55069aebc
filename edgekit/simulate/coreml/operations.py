"""The ML Program operations the simulator knows, by name. One that is not here is refused, never guessed."""

from __future__ import annotations

from edgekit.simulate.coreml.arithmetic import ARITHMETIC
from edgekit.simulate.coreml.node import Builder
from edgekit.simulate.coreml.rearranging import REARRANGING

OPERATIONS: dict[str, Builder] = {**ARITHMETIC, **REARRANGING}
ROUNDED = frozenset(ARITHMETIC)
"""Operations that make new numbers, rounded where the program declares float16; the others move old ones."""
RETYPING = frozenset({"cast", "constexpr_blockwise_shift_scale", "constexpr_lut_to_dense"})
"""Operations that may yield another float type than they take."""
