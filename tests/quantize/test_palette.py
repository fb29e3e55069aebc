"""4-bit palettes: what the fit finds, and that modules compute on exactly the numbers they hold."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.quantize.palette import PalettizedEmbedding, PalettizedLinear, palettize_weight
from edgekit.quantize.quantized import quantize_model
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_every_colour_is_the_mean_of_its_weights() -> None:
    weight = random(8, 400)
    fitted = palettize_weight(weight, 4)
    assert fitted.indices.dtype == torch.uint8
    assert fitted.table.shape == (2, 16)
    for group in range(2):
        rows, picks = weight[4 * group : 4 * group + 4], fitted.indices[4 * group : 4 * group + 4]
        means = torch.stack([rows[picks == colour].mean() for colour in range(16)])
        torch.testing.assert_close(fitted.table[group], means, rtol=0.02, atol=0.01)


def test_palettes_fit_better_than_an_even_grid_and_are_halves() -> None:
    weight = random(32, 256)
    fitted = palettize_weight(weight, 16)
    grouped = weight.view(2, -1)
    step = (grouped.amax(1) - grouped.amin(1))[:, None] / 15
    even = ((grouped - grouped.amin(1, keepdim=True)) / step).round() * step + grouped.amin(1, keepdim=True)
    error = (fitted.dequantize() - weight).pow(2).mean()
    assert error < 0.5 * (even.view_as(weight) - weight).pow(2).mean()
    # 16 levels of a normal variable cannot do better than 0.0095 of its variance (Max, 1960).
    assert 0.009 < error < 0.0105
    assert torch.equal(fitted.table, fitted.table.half().float())
    assert torch.equal(palettize_weight(weight, 16).indices, fitted.indices)


def test_every_weight_takes_its_nearest_colour() -> None:
    weight = random(16, 64)
    fitted = palettize_weight(weight, 8)
    distance = (weight.view(2, -1, 1) - fitted.table[:, None]).abs()
    assert torch.equal((weight - fitted.dequantize()).abs().view(2, -1), distance.amin(-1))


def test_constant_weights_need_one_colour() -> None:
    fitted = palettize_weight(torch.full((4, 8), 0.5), 4)
    assert torch.equal(fitted.dequantize(), torch.full((4, 8), 0.5))


def test_modules_compute_on_their_palettes() -> None:
    weight, bias = random(16, 8), random(16)
    fitted = palettize_weight(weight, 4)
    x = random(3, 8)
    assert torch.equal(PalettizedLinear(fitted, bias)(x), F.linear(x, fitted.dequantize(), bias))
    ids = torch.tensor([[3, 15], [0, 7]])
    assert torch.equal(PalettizedEmbedding(fitted)(ids), F.embedding(ids, fitted.dequantize()))


def test_a_recipe_puts_palettes_where_its_rules_say_and_ties_the_table() -> None:
    model = PolicyModel(ModelConfig(48, 32, 64, 1, 4, 2, 8, 16)).requires_grad_(False)
    rules = (QuantRule(match="*.down_proj", bits=32), QuantRule(match="*", bits=4, group_size=16, palette=True))
    quantized = quantize_model(model, QuantRecipe(rules=rules))
    assert isinstance(quantized.model.layers[0].mlp.down_proj, nn.Linear)
    assert isinstance(quantized.lm_head, PalettizedLinear)
    assert isinstance(quantized.model.embed_tokens, PalettizedEmbedding)
    assert quantized.lm_head.indices is quantized.model.embed_tokens.indices
