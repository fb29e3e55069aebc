"""The quantized reference: the same policy with a recipe's integer weights in place of its floats."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel
from edgekit.quantize.integers import QuantizedLinear, quantize_weight
from edgekit.quantize.recipe import QuantRecipe


def recipe_problems(model: PolicyModel, recipe: QuantRecipe) -> list[str]:
    """Every reason why ``recipe`` does not fit ``model``; empty if it does."""
    problems = []
    names = dict(weight_modules(model))
    for index, rule in enumerate(recipe.rules):
        matched = [name for name in names if recipe.rule_for(name) is rule]
        if not matched:
            problems.append(f"rules[{index}]: {rule.match} matches no weight of this model")
        for name in matched:
            width = names[name].weight.shape[1]
            if rule.group_size and width % rule.group_size:
                problems.append(f"rules[{index}]: group_size {rule.group_size} does not divide {width} ({name})")
                break
    return problems


def weight_modules(model: PolicyModel) -> list[tuple[str, nn.Linear | nn.Embedding]]:
    """The modules rules can name: every linear and the embedding, in model order."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Embedding)]


def quantize_model(model: PolicyModel, recipe: QuantRecipe) -> PolicyModel:
    """A copy of ``model`` on the recipe's numbers: integer linears, integer or half floats elsewhere.

    A quantized embedding keeps dequantized floats in torch; its integers can be had again exactly,
    since rounding a rounded weight changes nothing.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    if model.config.tie_word_embeddings:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone(), requires_grad=False)
    for name, module in weight_modules(model):
        rule = recipe.rule_for(name)
        if rule is None or rule.bits == 32:
            continue
        if rule.bits == 16:
            module.weight.data = module.weight.data.half().float()
            continue
        weight = quantize_weight(module.weight, rule.bits, rule.group_size)
        if isinstance(module, nn.Embedding):
            module.weight.data = weight.dequantize()
        else:
            parent, _, child = name.rpartition(".")
            linear = QuantizedLinear(weight, module.bias, recipe.activations == "int8")
            setattr(model.get_submodule(parent), child, linear)
    return model


def quantize_policy(policy: Policy, recipe: QuantRecipe) -> Policy:
    """``policy`` with its model quantized."""
    with torch.no_grad():
        return replace(policy, model=quantize_model(policy.model, recipe))
