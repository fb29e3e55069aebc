"""A cache of integers: its scales span what was seen, and what it holds is the nearest of its steps."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from export.random_models import random_model
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import EdgekitError
from edgekit.policy.model import Attention, ModelConfig
from edgekit.quantize.cache import CacheGrid, calibrate_caches
from edgekit.quantize.grid import grid_problems
from edgekit.quantize.quantized import quantize_model
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule

CONFIG = ModelConfig(300, 64, 128, 2, 4, 2, 16, 64)
INT8 = QuantRecipe(cache="int8")


@given(st.floats(1e-3, 1e3), st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=8))
def test_a_channel_moves_by_at_most_half_a_step_within_its_span_and_to_its_end_beyond(
    widest: float, shares: list[float]
) -> None:
    grid = CacheGrid(torch.full((1, 1), widest / 127))
    x = torch.tensor(shares).reshape(-1, 1, 1) * widest
    held = grid(x)
    assert torch.equal(grid(held), held)
    inside = x.abs() <= widest
    assert bool(((held - x).abs() <= 0.5001 * widest / 127)[inside].all())
    assert bool((held.abs() >= 0.999 * widest)[~inside].all())


def test_padding_gives_no_scale() -> None:
    tokens = torch.randint(0, 300, (2, 12), generator=torch.Generator().manual_seed(1))
    real = torch.ones_like(tokens, dtype=torch.bool)
    real[:, 8:] = False
    padded, short = (random_model(CONFIG) for _ in range(2))
    calibrate_caches(padded, [(tokens, real)])
    calibrate_caches(short, [(tokens[:, :8], real[:, :8])])
    for one, other in zip(padded.model.layers, short.model.layers, strict=True):
        ours, theirs = (cast(Attention, block.self_attn) for block in (one, other))
        torch.testing.assert_close(ours.key_grid.scales, theirs.key_grid.scales)
        torch.testing.assert_close(ours.value_grid.scales, theirs.value_grid.scales)


def test_scales_without_rollouts_are_refused_and_training_on_such_a_grid_too() -> None:
    with pytest.raises(EdgekitError, match="int8 cache without rollouts"):
        quantize_model(random_model(CONFIG), INT8)
    rules = (QuantRule(match="*", bits=8, group_size=32),)
    (problem,) = grid_problems(INT8.model_copy(update={"rules": rules}))
    assert "training rounds weights and activations alone" in problem
