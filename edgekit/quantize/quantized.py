"""The quantized reference: the same policy with a recipe's integer weights in place of its floats."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel
from edgekit.quantize.integers import IntegerWeight, QuantizedEmbedding, QuantizedLinear, quantize_weight
from edgekit.quantize.recipe import QuantRecipe, QuantRule


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
    """``model`` on the recipe's numbers: integer linears and embedding, integer or half floats elsewhere.

    The result shares the floats it keeps with ``model``, which stays as it is. A tied embedding and head
    under the same rule share one table of integers; under different rules each has its own.
    """
    shared: dict[int, object] = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False) for parameter in model.parameters()
    }
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    quantized = copy.deepcopy(model, shared).eval()
    tables: dict[tuple[int, QuantRule], IntegerWeight] = {}
    for name, module in weight_modules(model):
        rule = recipe.rule_for(name)
        if rule is None or rule.bits == 32:
            continue
        parent, _, child = name.rpartition(".")
        place = quantized.get_submodule(parent)
        if rule.bits == 16:
            half = nn.Parameter(module.weight.detach().half().float(), requires_grad=False)
            place.get_submodule(child).weight = half
            continue
        key = (id(module.weight), rule.model_copy(update={"match": ""}))
        if key not in tables:
            tables[key] = quantize_weight(module.weight, rule.bits, rule.group_size)
        if isinstance(module, nn.Embedding):
            setattr(place, child, QuantizedEmbedding(tables[key]))
        else:
            setattr(place, child, QuantizedLinear(tables[key], module.bias, recipe.activations))
    return quantized


def quantize_policy(policy: Policy, recipe: QuantRecipe) -> Policy:
    """``policy`` with its model quantized."""
    with torch.no_grad():
        return replace(policy, model=quantize_model(policy.model, recipe))
