"""Quantization-aware fine-tuning: a policy moved onto a recipe's grid and taught to write what it wrote before.

It starts from GPTQ's rounding on the policy's own greedy rollouts, with the scales held from then on. The forward
pass runs on the recipe's rounded weights and activations, the backward pass takes the rounding for the identity
(straight-through, Bengio et al., arXiv 1308.3432), and the loss is the divergence from the float policy on those
rollouts. What comes out has its weights on the grid, so that rounding them again changes nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.errors import ConfigError
from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel, causal
from edgekit.quantize.gptq import calibrate_linears
from edgekit.quantize.integers import QuantizedLinear, quantize_weight, round_activations
from edgekit.quantize.quantized import quantize_model, weight_modules
from edgekit.quantize.rollouts import RolloutBatch, record_rollouts
from edgekit.recipes.quant_recipe import Activations, QuantRecipe, QuantRule

Progress = Callable[[int, int, float], None]
"""(steps done, steps in all, the step's loss)."""
GPTQ_BATCHES = 8
"""Of the rollouts, how many batches the first rounding reads."""
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"


@dataclass(frozen=True)
class QatConfig:
    """How long and how fast. ``decision_weight`` is a place's weight where a marker counts, against 1 elsewhere."""

    steps: int = 200
    rows: int = 32
    learning_rate: float = 5e-4
    warmup: int = 10
    decision_weight: float = 1.0
    seed: int = 0


def finetune(
    policy: Policy,
    recipe: QuantRecipe,
    prompts: Sequence[str],
    config: QatConfig | None = None,
    on_progress: Progress | None = None,
) -> Policy:
    """A policy on ``recipe``'s grid that decides like ``policy`` on ``prompts`` (of the training split).

    ``policy`` stays as it is. Rounding the result to nearest by ``recipe`` gives its very weights. A tied embedding
    and head with unlike integer rules come out untied. The same arguments and thread count give the same weights.
    Raises :class:`ConfigError` for a recipe without integers or with palettes.
    """
    config = config or QatConfig()
    problems = qat_problems(recipe)
    if problems:
        raise ConfigError("recipe", problems)
    batches = record_rollouts(policy, prompts, config.rows)
    student = on_trainable_grid(policy.model, recipe)
    start_from_gptq(policy.model, student, recipe, batches)
    grids = [m for m in student.modules() if isinstance(m, GridLinear | GridEmbedding)]
    ends = [grid_ends(module) for module in grids]
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, foreach=False
    )
    for index, batch in enumerate(_shuffled(batches, config.steps, config.seed), start=1):
        optimizer.param_groups[0]["lr"] = config.learning_rate * _pace(index, config)
        optimizer.zero_grad(set_to_none=True)
        loss = distillation_loss(policy.model, student, batch, config.decision_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        for module, end in zip(grids, ends, strict=True):
            hold_scales(module, end)
        if on_progress is not None:
            on_progress(index, config.steps, float(loss.detach()))
    return replace(policy, model=plain_model(student))


def qat_problems(recipe: QuantRecipe) -> list[str]:
    """Why ``recipe`` cannot be trained for; empty if it can."""
    problems = []
    if not any(rule.bits <= 8 for rule in recipe.rules):
        problems.append("no rule gives a weight integers, so there is no grid to train on")
    if any(rule.palette for rule in recipe.rules):
        problems.append("palettes have no fixed grid to train on")
    return problems


class GridLinear(nn.Module):
    """A linear that multiplies its float ``weight`` (out, in) rounded by ``rule``, its input as ``activations`` say."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rule: QuantRule, activations: Activations) -> None:
        super().__init__()
        self.weight = weight
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.rule, self.activations = rule, activations

    def forward(self, x: Tensor) -> Tensor:
        block = self.rule.group_size or self.weight.shape[1]
        with torch.no_grad():
            rounding = round_activations(x, self.activations, block) - x
        return F.linear(x + rounding, _on_grid(self.weight, self.rule), self.bias)


class GridEmbedding(nn.Module):
    """An embedding that reads rows of its float ``weight`` (vocab, width) rounded by ``rule``."""

    def __init__(self, weight: Tensor, rule: QuantRule) -> None:
        super().__init__()
        self.weight, self.rule = weight, rule

    def forward(self, token_ids: Tensor) -> Tensor:
        rows = F.embedding(token_ids, self.weight)
        return _on_grid(rows.flatten(0, -2), self.rule).view_as(rows)


def _on_grid(weight: Tensor, rule: QuantRule) -> Tensor:
    """``weight`` (out, in) rounded; its gradient passes as if it were not."""
    with torch.no_grad():
        rounding = quantize_weight(weight, rule.bits, rule.group_size).dequantize() - weight
    return weight + rounding


def on_trainable_grid(model: PolicyModel, recipe: QuantRecipe) -> PolicyModel:
    """A copy of ``model`` whose linears and embedding round their float weights by ``recipe`` as they run.

    A tied pair stays tied, a half of it without integers taking the other's; unlike integers untie it.
    """
    student = copy.deepcopy(model).train().requires_grad_(True)
    rules = {name: rule for name, _ in weight_modules(model) if (rule := recipe.rule_for(name)) and rule.bits <= 8}
    if model.config.tie_word_embeddings:
        embedding, head = rules.get(EMBEDDING), rules.get(HEAD)
        if embedding and head and _grid(embedding) != _grid(head):
            student.config = replace(model.config, tie_word_embeddings=False)
            student.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
        elif either := embedding or head:
            rules[EMBEDDING] = rules[HEAD] = either
    modules = dict(weight_modules(student))
    for name, rule in rules.items():
        module = modules[name]
        trained: GridLinear | GridEmbedding = (
            GridEmbedding(module.weight, rule)
            if isinstance(module, nn.Embedding)
            else GridLinear(module.weight, module.bias, rule, recipe.activations)
        )
        parent, _, child = name.rpartition(".")
        setattr(student.get_submodule(parent), child, trained)
    return student


@torch.no_grad()
def start_from_gptq(
    model: PolicyModel, student: PolicyModel, recipe: QuantRecipe, batches: Sequence[RolloutBatch]
) -> None:
    """Put ``student``'s weights where GPTQ rounds ``model``'s on ``batches``: the training starts nearer."""
    quantized = quantize_model(model, recipe.model_copy(update={"rounding": "nearest"}))
    some = batches[:: max(1, len(batches) // GPTQ_BATCHES)]
    calibrate_linears(model, quantized, recipe, some, keep_ends=True)
    for name, module in quantized.named_modules():
        if isinstance(module, QuantizedLinear):
            weight = student.get_submodule(name).weight
            assert isinstance(weight, Tensor)
            weight.copy_(module.dequantized)


@torch.no_grad()
def grid_ends(module: GridLinear | GridEmbedding) -> tuple[Tensor, Tensor]:
    """(out, in) bool: weights at the end of their group's grid; (out, groups, 1) float32: those ends."""
    rounded = quantize_weight(module.weight, module.rule.bits, module.rule.group_size)
    largest = 2 ** (rounded.bits - 1) - 1
    return rounded.values.abs() == largest, (rounded.scales * largest).unsqueeze(-1)


@torch.no_grad()
def hold_scales(module: GridLinear | GridEmbedding, ends: tuple[Tensor, Tensor]) -> None:
    """Clamp the weights to their grid and put its ends back, so that the scales stay what they were."""
    at_end, limit = ends
    grouped = module.weight.view(len(limit), limit.shape[1], -1)
    grouped.clamp_(-limit, limit)
    held = limit.expand_as(grouped).copysign(grouped)
    grouped.copy_(torch.where(at_end.view_as(grouped), held, grouped))


def _grid(rule: QuantRule) -> tuple[int, int]:
    return rule.bits, rule.group_size


@torch.no_grad()
def plain_model(student: PolicyModel) -> PolicyModel:
    """``student`` as an ordinary model, each weight of a grid exactly on it."""
    plain = PolicyModel(student.config)
    tensors = student.state_dict()
    for name, module in student.named_modules():
        if isinstance(module, GridLinear | GridEmbedding):
            rounded = quantize_weight(module.weight, module.rule.bits, module.rule.group_size)
            tensors[f"{name}.weight"] = rounded.dequantize()
    plain.load_state_dict(tensors)
    return plain.eval().requires_grad_(False)


def distillation_loss(
    teacher: PolicyModel, student: PolicyModel, batch: RolloutBatch, decision_weight: float
) -> Tensor:
    """Mean over the places that chose a token of KL(teacher || student), those where a marker counts weighing more."""
    weights = 1 + (decision_weight - 1) * batch.decides[batch.responds].float()
    with torch.no_grad():
        target = _response_logits(teacher, batch).log_softmax(-1)
    answer = _response_logits(student, batch).log_softmax(-1)
    divergence = (target.exp() * (target - answer)).sum(-1)
    return (divergence * weights).sum() / weights.sum()


def _response_logits(model: PolicyModel, batch: RolloutBatch) -> Tensor:
    """(places, vocab) logits wherever a token was chosen."""
    hidden = model.hidden(batch.tokens, *causal(batch.tokens, None))
    logits: Tensor = model.lm_head(hidden[batch.responds])
    return logits


def _shuffled(batches: Sequence[RolloutBatch], steps: int, seed: int) -> Iterator[RolloutBatch]:
    """``steps`` batches, all of them in a new order each time round."""
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while True:
        for index in torch.randperm(len(batches), generator=generator).tolist():
            if done == steps:
                return
            yield batches[index]
            done += 1


def _pace(step: int, config: QatConfig) -> float:
    """The learning rate's share at ``step`` (from 1): a linear warm-up, then a cosine down to a fiftieth."""
    fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps))
    return min(1.0, step / config.warmup) * fall
