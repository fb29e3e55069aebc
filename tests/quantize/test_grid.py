"""Training on a grid: what runs is rounded, what is moved is not, and the artifact has the very same integers."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.errors import BundleError, ConfigError
from edgekit.policy.activations import RoundingLinear, round_activations
from edgekit.policy.checkpoint import Policy, load_policy, save_policy
from edgekit.policy.grid import Grid
from edgekit.policy.model import PolicyModel
from edgekit.policy.reference import decode_batch
from edgekit.quantize.grid import GridWeights, lies_on_grid
from edgekit.quantize.integers import QuantizedLinear
from edgekit.quantize.quantized import quantize_model, quantize_policy
from edgekit.recipes.quant_recipe import QuantRecipe

LAYERS = {"match": "model.layers.*", "bits": 4, "group_size": 16}
RULES = {
    "one table": [{"match": "*", "bits": 4, "group_size": 16}],
    "8-bit table": [LAYERS, {"match": "*", "bits": 8}],
    "float embedding": [LAYERS, {"match": "lm_head", "bits": 8}],
    "unlike tables": [LAYERS, {"match": "lm_head", "bits": 8}, {"match": "*", "bits": 4, "group_size": 16}],
    "half table": [LAYERS, {"match": "*", "bits": 16}],
}
TOKENS = torch.tensor([[3, 4, 5, 90, 7]])


def recipe(rules: str = "one table", activations: str = "float", rounding: str = "nearest") -> QuantRecipe:
    return QuantRecipe.model_validate({"rules": RULES[rules], "activations": activations, "rounding": rounding})


@pytest.fixture
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder)


def trained(policy: Policy, grid: QuantRecipe) -> Policy:
    """``policy`` on ``grid`` after a few steps that move every weight."""
    weights = GridWeights(policy.model.requires_grad_(True), grid)
    optimizer = torch.optim.Adam(weights.latent.parameters(), lr=0.05)
    weights.follow(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        policy.model(TOKENS).square().mean().backward()
        optimizer.step()
    policy.grid = Grid(recipe="mine", quantize=grid)
    return policy


@pytest.mark.parametrize("activations", ["float", "int8", "int8_block"])
@pytest.mark.parametrize("rules", RULES)
def test_the_trained_policy_is_its_own_quantized_reference_to_the_last_bit(
    rules: str, activations: str, policy: Policy, tmp_path: Path, tiny_prompts: list[str]
) -> None:
    grid = recipe(rules, activations)
    before = copy.deepcopy(policy.model)
    save_policy(trained(policy, grid), tmp_path)
    loaded = load_policy(tmp_path)
    assert loaded.grid == Grid(recipe="mine", quantize=grid)
    assert loaded.model.config.tie_word_embeddings == (rules != "unlike tables")
    assert lies_on_grid(loaded.model, grid)
    assert not torch.equal(loaded.model(TOKENS), before(TOKENS))
    quantized = quantize_policy(loaded, grid)
    assert torch.equal(loaded.model(TOKENS), quantized.model(TOKENS))
    prompts = [loaded.encode(prompt) for prompt in tiny_prompts]
    assert decode_batch(loaded, prompts) == decode_batch(quantized, prompts)


@pytest.mark.parametrize("rules", ["one table", "8-bit table"])
def test_an_export_that_would_round_by_gptq_keeps_the_trained_integers(rules: str, policy: Policy) -> None:
    """And so it needs no calibration prompts."""
    kept = trained(policy, recipe(rules)).model
    nearest, gptq = (quantize_model(kept, recipe(rules, rounding=rounding)) for rounding in ("nearest", "gptq"))
    for name, module in nearest.named_modules():
        if isinstance(module, QuantizedLinear):
            assert torch.equal(module.values, gptq.get_submodule(name).values), name
            assert torch.equal(module.scales, gptq.get_submodule(name).scales), name


def test_gptq_rounds_only_what_is_off_the_grid(policy: Policy, tiny_prompts: list[str]) -> None:
    layers = QuantRecipe.model_validate({"rules": [LAYERS]})
    kept = trained(policy, layers)
    both = recipe("8-bit table", rounding="gptq")
    quantized = quantize_policy(kept, both, tiny_prompts[:8])
    for name, module in quantized.model.named_modules():
        if isinstance(module, QuantizedLinear):
            same = torch.equal(module.dequantized, kept.model.get_submodule(name).weight)
            assert same == name.startswith("model.layers"), name


def test_gradients_and_steps_are_those_of_the_rounded_weights(policy: Policy) -> None:
    """Over two batches of a step: the latent gradient is the plain gradient at the rounded weights."""
    weights = GridWeights(policy.model.requires_grad_(True), recipe("8-bit table"))
    plain = copy.deepcopy(policy.model)
    other = TOKENS.flip(1)
    for model in (policy.model, plain):
        for tokens in (TOKENS, other):
            model(tokens).square().mean().backward()
    assert all(parameter.grad is None for parameter in policy.model.parameters() if parameter.dim() == 2)
    for (name, latent), expected in zip(weights.latent.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(latent.grad, expected.grad), name  # type: ignore[arg-type]


def test_what_no_rule_rounds_is_one_tensor_and_the_rest_stays_between_the_steps(policy: Policy) -> None:
    original = {name: parameter.clone() for name, parameter in policy.model.named_parameters()}
    weights = GridWeights(policy.model, QuantRecipe.model_validate({"rules": [LAYERS]}))
    for name, latent in weights.latent.named_parameters():
        shown = policy.model.get_parameter(name)
        assert torch.equal(latent, original[name]), name
        assert (shown is latent) == (not name.startswith("model.layers") or latent.dim() == 1), name


def test_q_k_and_v_share_one_rounding_and_the_gradient_passes_through(policy: Policy) -> None:
    weights = GridWeights(policy.model, recipe("one table", "int8"))
    attention = policy.model.get_submodule("model.layers.0.self_attn")
    linears = [attention.get_submodule(name) for name in ("q_proj", "k_proj", "v_proj")]
    x = torch.randn(2, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    for linear in linears:
        assert isinstance(linear, RoundingLinear)
        assert linear.round_input(x) is linears[0].round_input(x)  # type: ignore[operator]
        assert torch.equal(linear(x), nn.functional.linear(round_activations(x, "int8", 16), linear.weight))
    total = sum(linear(x).sum() for linear in linears)
    torch.autograd.backward(total)
    expected = sum(linear.weight.sum(0) for linear in linears)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(x.grad, expected.expand(2, -1))
    assert weights.model is policy.model


def test_what_has_no_grid_is_refused_and_a_damaged_grid_is_named(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no grid to train on"):
        GridWeights(policy.model, QuantRecipe())
    with pytest.raises(ConfigError, match="palettes"):
        GridWeights(
            policy.model,
            QuantRecipe.model_validate({"rules": [{"match": "*", "bits": 4, "group_size": 8, "palette": True}]}),
        )
    save_policy(policy, tmp_path)
    for text in ("{", '{"recipe": "x", "quantize": {"rules": 3}}', '{"version": 2, "recipe": "x", "quantize": {}}'):
        (tmp_path / "grid.json").write_text(text)
        with pytest.raises(BundleError, match=r"unreadable grid: .*grid\.json"):
            load_policy(tmp_path)


def test_a_plain_model_comes_back_from_a_recipe_without_rules(policy: Policy) -> None:
    model: PolicyModel = trained(policy, recipe("one table", "int8_block")).model
    plain = quantize_model(model, QuantRecipe())
    assert not any(isinstance(module, RoundingLinear) for module in plain.modules())
    assert torch.equal(plain.lm_head.weight, model.lm_head.weight)
