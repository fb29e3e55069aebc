"""Whether training on a grid moves it: the integers that a run starts from, and the share that is others now.

A small learning rate may turn no float across the middle between two integers: then the optimizer works, and what runs
changes only in scales and in what no rule rounds, the norms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from edgekit.quantize.grid import ROWS
from edgekit.quantize.integers import quantize_weight
from edgekit.recipes.quant_recipe import QuantRule


class MovedIntegers:
    """The integers of float ``weights`` (out, in), each with its rule, as they were when this was made.

    Kept in the host's memory, a byte each: a sixteenth of what their floats take with gradients and moments.
    """

    def __init__(self, weights: Sequence[tuple[Tensor, QuantRule]]) -> None:
        self._weights = weights
        self._start = [[values.cpu() for values in _integers(weight, rule)] for weight, rule in weights]

    @torch.no_grad()
    def share(self) -> float:
        """The share of all integers that are others now."""
        moved = total = 0
        for (weight, rule), start in zip(self._weights, self._start, strict=True):
            for before, now in zip(start, _integers(weight, rule), strict=True):
                moved += int((now != before.to(now.device)).sum())
                total += now.numel()
        return moved / total


def _integers(weight: Tensor, rule: QuantRule) -> Iterator[Tensor]:
    """The integers (rows, in) int8 of each part of ``weight``."""
    for rows in weight.split(ROWS):
        yield quantize_weight(rows, rule.bits, rule.group_size).values
