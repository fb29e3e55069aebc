"""Fine-tuning onto a grid: what comes out lies on it exactly, and is nearer to the policy than rounding alone."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from edgekit.errors import ConfigError
from edgekit.policy.checkpoint import Policy, load_policy, save_policy
from edgekit.policy.grid import FLOATS
from edgekit.quantize.grid import GridWeights, lies_on_grid
from edgekit.quantize.integers import quantize_weight
from edgekit.quantize.qat import QatConfig, distillation_loss, finetune
from edgekit.quantize.quantized import quantize_policy, weight_modules
from edgekit.quantize.rollouts import record_rollouts
from edgekit.recipes.quant_recipe import QuantRecipe

LAYERS = {"match": "model.layers.*", "bits": 4, "group_size": 16}
RECIPES = {
    "one table": [{"match": "*", "bits": 4, "group_size": 16}],
    "float embedding, 8-bit head": [LAYERS, {"match": "lm_head", "bits": 8}],
    "unlike tables": [LAYERS, {"match": "lm_head", "bits": 8}, {"match": "*", "bits": 4, "group_size": 16}],
}


@pytest.fixture(scope="module")
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder)


@pytest.mark.parametrize("name", RECIPES)
def test_rounding_the_tuned_policy_again_gives_its_very_weights(
    name: str, policy: Policy, tiny_prompts: list[str], tmp_path: Path
) -> None:
    recipe = QuantRecipe.model_validate({"rules": RECIPES[name]})
    tuned, floats = finetune(policy, recipe, tiny_prompts[:8], QatConfig(steps=3, rows=4))
    save_policy(tuned, tmp_path, floats)
    tuned, behind = load_policy(tmp_path), load_policy(tmp_path / FLOATS)
    assert behind.grid is None
    assert not lies_on_grid(behind.model, recipe)
    rounded = GridWeights(behind.model, recipe).model.state_dict()
    assert all(torch.equal(rounded[key], tensor) for key, tensor in tuned.model.state_dict().items())
    assert tuned.model.config.tie_word_embeddings == (name != "unlike tables")
    for module_name, module in weight_modules(tuned.model):
        rule = recipe.rule_for(module_name)
        if rule is not None:
            once = quantize_weight(module.weight, rule.bits, rule.group_size)
            assert torch.equal(once.dequantize(), module.weight), module_name
            again = quantize_weight(once.dequantize(), rule.bits, rule.group_size)
            assert torch.equal(again.scales, once.scales)
            assert torch.equal(again.values, once.values)
    prompt = torch.tensor([[3, 4, 5]])
    assert torch.equal(tuned.model(prompt), quantize_policy(tuned, recipe).model(prompt))


def test_fine_tuning_brings_the_quantized_policy_nearer_and_is_reproducible(
    policy: Policy, tiny_prompts: list[str]
) -> None:
    recipe = QuantRecipe.model_validate({"rules": RECIPES["one table"]})
    config = QatConfig(steps=60, rows=8, learning_rate=3e-3)
    before = policy.model.lm_head.weight.clone()
    first, second = (finetune(policy, recipe, tiny_prompts[:32], config)[0] for _ in range(2))
    for ours, again in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(ours, again)
    assert torch.equal(policy.model.lm_head.weight, before)
    held_out = record_rollouts(policy, tiny_prompts[32:])
    losses = [
        sum(float(distillation_loss(policy.model, q.model, batch, 1.0)) for batch in held_out)
        for q in (first, quantize_policy(policy, recipe))
    ]
    assert losses[0] < 0.95 * losses[1]


def test_rounding_is_idempotent_on_every_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    for (bits, group), spread in itertools.product([(4, 16), (4, 32), (8, 0), (8, 32)], [1e-6, 1.0, 1e3]):
        weight = torch.randn(512, 64, generator=generator) * spread
        once = quantize_weight(weight, bits, group)
        twice = quantize_weight(once.dequantize(), bits, group)
        assert torch.equal(once.values, twice.values)
        assert torch.equal(once.scales, twice.scales)


def test_a_recipe_without_integers_is_refused(policy: Policy) -> None:
    with pytest.raises(ConfigError, match="no grid"):
        finetune(policy, QuantRecipe(), ["1 2 -> 3"])
