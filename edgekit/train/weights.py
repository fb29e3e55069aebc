"""What a run moves: all of the policy's weights, low-rank adapters of them, or the floats behind a grid.

The run's policy is always the one that acts: adapters merged in, weights on the grid. What is moved may be something
else, and the policy follows it after every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import nn

from edgekit.policy.model import PolicyModel
from edgekit.quantize.grid import GridWeights
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.train.config import TrainConfig
from edgekit.train.lora import merge_adapters, with_adapters


class TrainedWeights(Protocol):
    """``model`` computes the log-probabilities that are learned; ``moved`` is for the optimizer and for checkpoints."""

    model: PolicyModel
    moved: PolicyModel

    def refresh(self) -> None:
        """Bring the policy's own weights up to date with ``moved``."""

    def floats(self) -> PolicyModel | None:
        """What rounds to the policy's weights, once they are trained; None where these are floats themselves."""

    def integers(self) -> Sequence[tuple[nn.Parameter, QuantRule]]:
        """Those of ``moved`` that are rounded to integers, and by which rule."""


def trained_weights(policy_model: PolicyModel, config: TrainConfig, recipe: QuantRecipe | None) -> TrainedWeights:
    """What ``config`` trains of ``policy_model``, which is put on ``recipe``'s grid if there is one."""
    if recipe is not None:
        return _BehindGrid(policy_model, recipe)
    return _AllWeights(policy_model) if config.lora_rank is None else _Adapters(policy_model, config)


class _AllWeights:
    def __init__(self, model: PolicyModel) -> None:
        self.model = self.moved = model

    def refresh(self) -> None:
        """They are the policy's own."""

    def floats(self) -> None:
        """No grid."""

    def integers(self) -> Sequence[tuple[nn.Parameter, QuantRule]]:
        """No grid."""
        return ()


class _Adapters:
    def __init__(self, policy_model: PolicyModel, config: TrainConfig) -> None:
        self._policy_model = policy_model
        self.model = self.moved = with_adapters(policy_model, config)

    def refresh(self) -> None:
        """Merge them."""
        merge_adapters(self.moved, self._policy_model)

    def floats(self) -> None:
        """No grid."""

    def integers(self) -> Sequence[tuple[nn.Parameter, QuantRule]]:
        """No grid."""
        return ()


class _BehindGrid:
    def __init__(self, policy_model: PolicyModel, recipe: QuantRecipe) -> None:
        self._grid = GridWeights(policy_model, recipe)
        self.model, self.moved = policy_model, self._grid.latent

    def refresh(self) -> None:
        """Round them."""
        self._grid.round()

    def floats(self) -> PolicyModel:
        """Those that were moved."""
        return self._grid.floats()

    def integers(self) -> Sequence[tuple[nn.Parameter, QuantRule]]:
        """The grid's."""
        return self._grid.integers()
