"""The quantized reference: the same policy with a recipe's integer weights in place of its floats."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from edgekit.errors import EdgekitError
from edgekit.policy.activations import plain_inputs
from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel
from edgekit.progress import Progress
from edgekit.quantize.cache import calibrate_caches
from edgekit.quantize.gptq import calibrate_linears
from edgekit.quantize.grid import lies_on_grid
from edgekit.quantize.integers import IntegerWeight, QuantizedEmbedding, QuantizedLinear, quantize_weight
from edgekit.quantize.palette import PaletteWeight, PalettizedEmbedding, PalettizedLinear, palettize_weight
from edgekit.quantize.rollouts import RolloutBatch, record_rollouts
from edgekit.recipes.quant_recipe import QuantRecipe
from edgekit.recipes.weights import Shape


def weight_modules(model: PolicyModel) -> list[tuple[str, nn.Linear | nn.Embedding]]:
    """The modules rules can name: every linear and the embedding, in model order."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Embedding)]


def weight_shapes(model: PolicyModel) -> dict[str, Shape]:
    """Module name -> (out, in) of each of :func:`weight_modules`."""
    return {name: (module.weight.shape[0], module.weight.shape[1]) for name, module in weight_modules(model)}


def quantize_model(
    model: PolicyModel,
    recipe: QuantRecipe,
    rollouts: Sequence[RolloutBatch] = (),
    on_progress: Progress | None = None,
) -> PolicyModel:
    """``model`` on the recipe's numbers: integer linears and embedding, integer or half floats elsewhere.

    The result shares the matrices it keeps as floats with ``model``, which stays as it is. A tied embedding and head
    under the same rule share one table of integers; under different rules each has its own. ``rollouts`` are what
    a recipe with ``rounding: gptq`` rounds for and a cache of integers finds its scales on; :class:`EdgekitError` if
    they are needed (see :func:`needs_rollouts`) and it gets none.
    """
    spreads_errors = recipe.rounding == "gptq" and not lies_on_grid(model, recipe)
    if spreads_errors and not rollouts:
        raise EdgekitError("cannot round: gptq without rollouts. It weighs errors by them. Give calibration prompts.")
    if recipe.cache == "int8" and not rollouts:
        raise EdgekitError("cannot round: int8 cache without rollouts. They give its scales. Give calibration prompts.")
    shared: dict[int, object] = {
        # Vectors are copied: one that stayed a view of the weights file's memory would keep all of that.
        id(parameter): nn.Parameter(parameter.detach().clone() if parameter.dim() == 1 else parameter.detach(), False)
        for parameter in model.parameters()
    }
    shared |= {id(buffer): buffer for buffer in model.buffers()}
    quantized = copy.deepcopy(model, shared).eval()
    plain_inputs(quantized)
    tables: dict[tuple[object, ...], IntegerWeight | PaletteWeight] = {}
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
        key = (id(module.weight), *rule.numbers)
        if key not in tables:
            palette = palettize_weight(module.weight, rule.group_size) if rule.palette else None
            tables[key] = palette or quantize_weight(module.weight, rule.bits, rule.group_size)
        setattr(place, child, _on_table(module, tables[key], recipe))
    if spreads_errors:
        calibrate_linears(model, quantized, recipe, rollouts, on_progress)
    if recipe.cache == "int8":
        calibrate_caches(quantized, ((batch.tokens, batch.real) for batch in rollouts))
    return quantized


def needs_rollouts(model: PolicyModel, recipe: QuantRecipe) -> bool:
    """Whether rounding ``model`` depends on its responses: weights on the recipe's grid already keep their integers."""
    return recipe.cache == "int8" or (recipe.rounding == "gptq" and not lies_on_grid(model, recipe))


def _on_table(module: nn.Linear | nn.Embedding, table: IntegerWeight | PaletteWeight, recipe: QuantRecipe) -> nn.Module:
    """``module`` on the quantized ``table`` instead of its floats."""
    if isinstance(module, nn.Embedding):
        return PalettizedEmbedding(table) if isinstance(table, PaletteWeight) else QuantizedEmbedding(table)
    if isinstance(table, PaletteWeight):
        return PalettizedLinear(table, module.bias)
    return QuantizedLinear(table, module.bias, recipe.activations)


def quantize_policy(
    policy: Policy, recipe: QuantRecipe, prompts: Sequence[str] = (), on_progress: Progress | None = None
) -> Policy:
    """``policy`` with its model quantized; ``prompts`` (of its task's training split) are read if rollouts are."""
    with torch.no_grad():
        rounds_for = prompts if needs_rollouts(policy.model, recipe) else []
        rollouts = record_rollouts(policy, rounds_for) if rounds_for else []
        return replace(policy, model=quantize_model(policy.model, recipe, rollouts, on_progress))
