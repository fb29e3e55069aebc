"""Quantization-aware fine-tuning: a policy moved onto a recipe's grid and taught to write what it wrote before.

It starts from GPTQ's rounding on the policy's own greedy rollouts, with the scales held from then on. The forward
pass runs on the recipe's rounded weights and activations, the backward pass takes the rounding for the identity
(straight-through, Bengio et al., arXiv 1308.3432), and the loss is the divergence from the float policy on those
rollouts. What comes out has its weights on the grid, so that rounding them again changes nothing, and the floats
behind them, from which a training on the grid goes on.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgekit.errors import ConfigError, EdgekitError
from edgekit.policy.activations import plain_inputs
from edgekit.policy.attention import causal
from edgekit.policy.checkpoint import Policy
from edgekit.policy.grid import Grid
from edgekit.policy.model import PolicyModel
from edgekit.progress import Progress
from edgekit.quantize.gptq import calibrate_linears
from edgekit.quantize.grid import GridWeights, grid_problems
from edgekit.quantize.integers import QuantizedLinear, quantize_weight
from edgekit.quantize.quantized import quantize_model
from edgekit.quantize.rollouts import RolloutBatch, record_rollouts
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule

GPTQ_BATCHES = 8
"""Of the rollouts, how many batches the first rounding reads."""


@dataclass(frozen=True)
class QatConfig:
    """How long and how fast. ``decision_weight`` is a place's weight where a marker counts, against 1 elsewhere.

    Raises :class:`EdgekitError` for a learning rate that is none.
    """

    steps: int = 200
    rows: int = 32
    learning_rate: float = 5e-4
    warmup: int = 10
    decision_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise EdgekitError(f"bad learning rate: {self.learning_rate:g}. It is Adam's. Give a number above 0.")


def finetune(
    policy: Policy,
    recipe: QuantRecipe,
    prompts: Sequence[str],
    config: QatConfig | None = None,
    on_progress: Progress | None = None,
    *,
    recipe_name: str = "unnamed",
) -> tuple[Policy, PolicyModel]:
    """A policy on ``recipe``'s grid that decides like ``policy`` on ``prompts`` (of the training split), and the floats
    that round to its weights.

    ``policy`` stays as it is. ``recipe_name`` is what the result's grid is called. Rounding the result to nearest by
    ``recipe`` gives its very weights. A tied embedding and head with unlike integer rules come out untied. The same
    arguments and thread count give the same weights.
    Raises :class:`ConfigError` for a recipe without integers or with palettes.
    """
    config = config or QatConfig()
    if problems := grid_problems(recipe):
        raise ConfigError("recipe", problems)
    batches = record_rollouts(policy, prompts, config.rows)
    student = copy.deepcopy(policy.model).train().requires_grad_(True)
    plain_inputs(student)
    grid = GridWeights(student, recipe)
    start_from_gptq(policy.model, grid.latent, recipe, batches)
    held = [HeldScales.of(weight, rule) for weight, rule in grid.integers()]
    optimizer = torch.optim.AdamW(
        grid.latent.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, foreach=False
    )
    grid.round()
    for index, batch in enumerate(_shuffled(batches, config.steps, config.seed), start=1):
        optimizer.param_groups[0]["lr"] = config.learning_rate * _pace(index, config)
        optimizer.zero_grad(set_to_none=True)
        loss = distillation_loss(policy.model, student, batch, config.decision_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(grid.latent.parameters(), 1.0)
        optimizer.step()
        for scales in held:
            scales.hold()
        grid.round()
        if on_progress is not None:
            on_progress(index, config.steps, f"divergence {float(loss.detach()):.5f}")
    tuned = replace(policy, model=student.eval().requires_grad_(False), grid=Grid(recipe=recipe_name, quantize=recipe))
    return tuned, grid.floats().eval().requires_grad_(False)


@torch.no_grad()
def start_from_gptq(
    model: PolicyModel, latent: PolicyModel, recipe: QuantRecipe, batches: Sequence[RolloutBatch]
) -> None:
    """Put the ``latent`` weights where GPTQ rounds ``model``'s on ``batches``: the training starts nearer."""
    quantized = quantize_model(model, recipe.model_copy(update={"rounding": "nearest"}))
    some = batches[:: max(1, len(batches) // GPTQ_BATCHES)]
    calibrate_linears(model, quantized, recipe, some, keep_ends=True)
    for name, module in quantized.named_modules():
        if isinstance(module, QuantizedLinear):
            weight = latent.get_submodule(name).weight
            assert isinstance(weight, Tensor)
            weight.copy_(module.dequantized)


@dataclass(frozen=True)
class HeldScales:
    """The scales that ``weight`` (out, in) had when this was made, and how they are kept while it is trained.

    at_end (out, in) bool: weights at the end of their group's grid; limit (out, groups, 1) float32: those ends.
    """

    weight: Tensor
    at_end: Tensor
    limit: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, weight: Tensor, rule: QuantRule) -> HeldScales:
        """Of ``weight`` as it is now."""
        rounded = quantize_weight(weight, rule.bits, rule.group_size)
        largest = 2 ** (rounded.bits - 1) - 1
        return cls(weight, rounded.values.abs() == largest, (rounded.scales * largest).unsqueeze(-1))

    @torch.no_grad()
    def hold(self) -> None:
        """Clamp the weight to its grid and put the grid's ends back, so that the scales stay what they were."""
        grouped = self.weight.view(len(self.limit), self.limit.shape[1], -1)
        grouped.clamp_(-self.limit, self.limit)
        held = self.limit.expand_as(grouped).copysign(grouped)
        grouped.copy_(torch.where(self.at_end.view_as(grouped), held, grouped))


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
