"""Which weights the decisions feel: each group of them rounded alone, everything else float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel
from edgekit.quantize.quantized import quantize_model, weight_modules
from edgekit.quantize.recipe import QuantRecipe, QuantRule
from edgekit.quantize.rollouts import RolloutBatch, record_rollouts

Progress = Callable[[int, int], None]
"""(groups measured, groups in all)."""


@dataclass(frozen=True)
class Sensitivity:
    """What rounding the weights of ``rule`` alone does, along the policy's own rollouts.

    margin_shift: mean |change| of the marker's margin where a marker counts, in logits. changed: share of the
    rollouts on which some choice, of a token or of the marker, becomes another. divergence: mean KL divergence of
    the next token's distribution. extra_mb: what the ``finer`` rule costs over ``rule`` (10^6 bytes).
    """

    rule: QuantRule
    finer: QuantRule
    margin_shift: float
    changed: float
    divergence: float
    extra_mb: float


@dataclass(frozen=True)
class _Traits:
    """Along one batch: margins (decisions,), chosen (places,) and log-probabilities (places, vocab)."""

    margins: Tensor
    chosen: Tensor
    rows: Tensor
    log_probs: Tensor


def measure_sensitivity(
    policy: Policy,
    rules: Sequence[QuantRule],
    finer: QuantRule,
    prompts: Sequence[str],
    on_progress: Progress | None = None,
) -> list[Sensitivity]:
    """Each of ``rules`` alone against the float policy on its rollouts over ``prompts``; ``finer`` gives the cost.

    ``finer``'s match is ignored: it stands for the bits and the group that a rule's weights could have instead.
    """
    batches = record_rollouts(policy, prompts)
    before = [_traits(policy.model, policy, batch) for batch in batches]
    found = []
    for index, rule in enumerate(rules, start=1):
        model = quantize_model(policy.model, QuantRecipe(rules=(rule,)))
        shift, changed, divergence, places, decisions, rollouts = 0.0, 0, 0.0, 0, 0, 0
        for batch, float_traits in zip(batches, before, strict=True):
            traits = _traits(model, policy, batch)
            shift += float((traits.margins - float_traits.margins).abs().sum())
            other = traits.chosen != float_traits.chosen
            changed += len(float_traits.rows[other].unique())
            lost = float_traits.log_probs.exp() * (float_traits.log_probs - traits.log_probs)
            divergence += float(lost.sum())
            places, decisions = places + len(other), decisions + len(traits.margins)
            rollouts += len(batch.tokens)
        better = finer.model_copy(update={"match": rule.match})
        cost = weight_mb(policy.model, (better,)) - weight_mb(policy.model, (rule,))
        found.append(
            Sensitivity(rule, better, shift / max(decisions, 1), changed / rollouts, divergence / places, cost)
        )
        if on_progress is not None:
            on_progress(index, len(rules))
    return found


def weight_groups(model: PolicyModel, rule: QuantRule) -> list[QuantRule]:
    """``rule`` for each group of weights whose bits are chosen together: each layer's attention, and its MLP."""
    names = [f"model.layers.{layer}" for layer in range(model.config.num_hidden_layers)]
    parts = [f"{name}.{part}.*" for name in names for part in ("self_attn", "mlp")]
    return [rule.model_copy(update={"match": match}) for match in parts]


def spend(found: Sequence[Sensitivity], budget_mb: float) -> list[QuantRule]:
    """The finer rules worth having for ``budget_mb`` in all: the most divergence saved per megabyte first."""
    chosen: list[QuantRule] = []
    for item in sorted(found, key=lambda item: item.divergence / max(item.extra_mb, 1e-9), reverse=True):
        if item.extra_mb <= budget_mb:
            chosen.append(item.finer)
            budget_mb -= item.extra_mb
    return chosen


def weight_mb(model: PolicyModel, rules: Sequence[QuantRule], scale_bytes: int = 2, float_bytes: int = 4) -> float:
    """10^6 bytes of the weights that ``rules`` match: integers and ``scale_bytes`` a scale, or plain floats.

    A tied embedding and head of one rule count once.
    """
    recipe, seen, total = QuantRecipe(rules=tuple(rules)), set(), 0.0
    for name, module in weight_modules(model):
        rule = recipe.rule_for(name)
        key = (id(module.weight), rule and rule.model_copy(update={"match": ""}))
        if rule is None or key in seen:
            continue
        seen.add(key)
        out, width = module.weight.shape
        if rule.palette:
            total += out * width / 2 + out // rule.group_size * 16 * scale_bytes
        elif rule.bits <= 8:
            total += out * width * rule.bits / 8 + out * (width // (rule.group_size or width)) * scale_bytes
        else:
            total += out * width * (2 if rule.bits == 16 else float_bytes)
    return total / 1e6


@torch.no_grad()
def _traits(model: PolicyModel, policy: Policy, batch: RolloutBatch) -> _Traits:
    logits = model(batch.tokens)[batch.responds]
    decides = batch.decides[batch.responds]
    rows = torch.arange(len(batch.tokens))[:, None].expand_as(batch.tokens)[batch.responds]
    firsts = torch.tensor(sorted({ids[0] for ids in policy.routing.marker.token_ids}))
    others = logits.clone()
    others[:, firsts] = -torch.inf
    margins = logits[:, firsts].amax(-1) - others.amax(-1) + policy.routing.marker_bias
    # Where a marker counts, the margin's sign chooses; elsewhere the largest logit does.
    calls = firsts[logits[:, firsts].argmax(-1)]
    chosen = torch.where(decides, torch.where(margins > 0, calls, others.argmax(-1)), logits.argmax(-1))
    return _Traits(margins[decides], chosen, rows, logits.log_softmax(-1))
