"""Training on a recipe's grid: what runs has rounded weights, what the optimizer moves are the floats behind them.

The forward and the backward pass see the grid's own numbers, so the policy that samples, learns and is saved is the
one that its artifact runs. Rounding has no useful gradient, so the gradient of a rounded weight moves the float
behind it as if there were no rounding (straight-through, Bengio et al., arXiv 1308.3432). A weight is rounded once
a step, not once for each batch of it.

What is exact and what is not. Let w be the latent weights, q(w) the rounded ones, J(v) the expected reward of the
policy that computes with weights v. Responses are drawn from the policy of q(w), so a policy gradient computed there
is as unbiased an estimate of grad J at v = q(w) as in floats: nothing about the grid biases it. The straight-through
step takes it for the gradient in w, that is, it puts the identity for dq/dw, which is zero almost everywhere and no
use. Rounded activations are a second such step, inside the network: the logits are exact, and only how they depend on
the weights is taken as if activations passed unrounded. Each step's softmax is differentiated exactly, so the scores
still have mean zero and a group's mean reward is still a baseline without bias.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.errors import ConfigError
from edgekit.policy.activations import plain_inputs, round_inputs
from edgekit.policy.model import PolicyModel
from edgekit.quantize.integers import quantize_weight
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.recipes.weights import EMBEDDING, HEAD

ROWS = 4096
"""Rows of a weight rounded at a time, which bounds the memory."""


def grid_problems(recipe: QuantRecipe) -> list[str]:
    """Why ``recipe`` cannot be trained for; empty if it can."""
    problems = []
    if not any(rule.bits <= 8 for rule in recipe.rules):
        problems.append("no rule gives a weight integers, so there is no grid to train on")
    if any(rule.palette for rule in recipe.rules):
        problems.append("palettes have no fixed grid to train on")
    if recipe.cache != "float":
        problems.append(f"cache: {recipe.cache}, training rounds weights and activations alone; export with it instead")
    return problems


class GridWeights:
    """``model`` put on ``recipe``'s grid, in place, and the float weights that stand behind it.

    ``model`` computes with rounded weights and rounds the inputs of its linears as the recipe's target does. After a
    backward pass ``latent``, a module of the same names, holds the gradients: its parameters are for the optimizer
    and for checkpoints. What no rule rounds is the very same tensor in both. After each step :meth:`round`
    brings ``model`` up to date; :meth:`follow` sees to that.

    A tied embedding and head stay tied under one rule, or if only one of them has any; unlike rules untie ``model``.
    Raises :class:`ConfigError` for a recipe without integers or with palettes.
    """

    def __init__(self, model: PolicyModel, recipe: QuantRecipe) -> None:
        if problems := grid_problems(recipe):
            raise ConfigError("recipe", problems)
        self.model = model
        rules = grid_rules(model, recipe)
        round_inputs(model, recipe)
        modules = {name: model.get_submodule(name) for name in rules}
        rounded = {id(module.weight) for module in modules.values()}
        shared: dict[int, Any] = {
            id(tensor): tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in rounded
        }
        self.latent = copy.deepcopy(model, shared)
        self._pairs: list[tuple[nn.Parameter, nn.Parameter, QuantRule]] = []
        for name, module in modules.items():
            ours, behind = module.weight, self.latent.get_submodule(name).weight
            assert isinstance(ours, nn.Parameter)
            assert isinstance(behind, nn.Parameter)
            if any(ours is known for known, _, _ in self._pairs):
                continue  # tied
            ours.register_post_accumulate_grad_hook(partial(_hand_over, behind))
            self._pairs.append((ours, behind, rules[name]))
        self.round()

    @torch.no_grad()
    def round(self) -> None:
        """Give ``model`` the latent weights, rounded."""
        for ours, behind, rule in self._pairs:
            for target, source in zip(ours.split(ROWS), behind.split(ROWS), strict=True):
                target.copy_(on_grid(source, rule))

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Round again after each of ``optimizer``'s steps on the latent weights."""
        optimizer.register_step_post_hook(lambda *_: self.round())

    def floats(self) -> PolicyModel:
        """The latent weights as a model of floats, from which a training on this grid goes on where this one is.

        From rounded weights it would not: they lie in the middle of their steps, out of which a small learning rate
        moves none.
        """
        plain_inputs(self.latent)
        return self.latent

    def integers(self) -> list[tuple[nn.Parameter, QuantRule]]:
        """The latent weights that have integers, each once, and their rules."""
        return [(behind, rule) for _, behind, rule in self._pairs if rule.bits <= 8]


def _hand_over(behind: nn.Parameter, rounded: Tensor) -> None:
    """Move the gradient of a ``rounded`` weight to the float ``behind`` it."""
    gradient, rounded.grad = rounded.grad, None
    if behind.grad is None:
        behind.grad = gradient
    elif gradient is not None:
        behind.grad.add_(gradient)


def grid_rules(model: PolicyModel, recipe: QuantRecipe) -> dict[str, QuantRule]:
    """The rule of each linear and embedding that does not stay as it is, by module name.

    Of a tied embedding and head, one without a rule takes the other's; unlike rules untie ``model``, in place.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Embedding)]
    rules = {name: rule for name in names if (rule := recipe.rule_for(name)) and rule.bits < 32}
    if model.config.tie_word_embeddings:
        embedding, head = rules.get(EMBEDDING), rules.get(HEAD)
        if embedding and head and embedding.numbers != head.numbers:
            model.config = replace(model.config, tie_word_embeddings=False)
            model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
        elif either := embedding or head:
            rules[EMBEDDING] = rules[HEAD] = either
    return rules


def on_grid(weight: Tensor, rule: QuantRule) -> Tensor:
    """``weight`` (out, in) rounded to nearest by ``rule``, in float32; a weight on the grid stays what it is."""
    if rule.bits == 16:
        return weight.half().float()
    return quantize_weight(weight, rule.bits, rule.group_size).dequantize()


@torch.no_grad()
def lies_on_grid(model: PolicyModel, recipe: QuantRecipe) -> bool:
    """Whether rounding ``model`` to nearest by ``recipe`` changes no weight: then its integers are settled."""
    modules: list[tuple[str, nn.Module]] = list(model.named_modules())
    for name, module in modules:
        rule = recipe.rule_for(name) if isinstance(module, nn.Linear | nn.Embedding) else None
        if rule is None or rule.bits > 8:
            continue
        weight = module.weight
        assert isinstance(weight, Tensor)
        if rule.palette or not all(torch.equal(on_grid(rows, rule), rows) for rows in weight.split(ROWS)):
            return False
    return True
