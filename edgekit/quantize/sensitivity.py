"""Which weights the decisions feel: each group of them rounded alone, everything else float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgekit.policy.attention import causal
from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel
from edgekit.progress import Progress
from edgekit.quantize.quantized import quantize_model, weight_modules, weight_shapes
from edgekit.quantize.rollouts import RolloutBatch, record_rollouts
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.recipes.weights import EMBEDDING, HEAD, Storage, matched_bytes
from edgekit.routing.decision_rule import calls, contest

PARTS = {"attention": ("self_attn.*",), "gate_up": ("mlp.gate_proj", "mlp.up_proj"), "down": ("mlp.down_proj",)}
"""A layer's weights by what shares their bits: name -> globs below the layer."""
LAYERS = "model.layers."


@dataclass(frozen=True)
class WeightGroup:
    """Weights whose bits are chosen together: their rules (one a weight) and the finer ones they could have."""

    name: str
    rules: tuple[QuantRule, ...]
    finer: tuple[QuantRule, ...]


@dataclass(frozen=True)
class Sensitivity:
    """What rounding the weights of ``group`` alone does, along the policy's own rollouts.

    margin_shift: mean |change| of the marker's margin where a marker counts, in logits. changed: share of the
    rollouts on which some choice, of a token or of the marker, becomes another. divergence: mean KL divergence of
    the next token's distribution. extra_mb: what the finer rules cost over the group's own (10^6 bytes).
    """

    group: WeightGroup
    margin_shift: float
    changed: float
    divergence: float
    extra_mb: float

    @property
    def worth(self) -> float:
        """Divergence that a megabyte on this group could save, at most."""
        return self.divergence / max(self.extra_mb, 1e-9)


@dataclass(frozen=True)
class _Traits:
    """Along one batch: margins (decisions,), chosen (places,) and log-probabilities (places, vocab)."""

    margins: Tensor
    chosen: Tensor
    rows: Tensor
    log_probs: Tensor


def weight_groups(model: PolicyModel, recipe: QuantRecipe, finer: QuantRule) -> list[WeightGroup]:
    """The groups ``recipe`` gives fewer bits than ``finer``, whose match is ignored: PARTS of each layer, the tables.

    A tied embedding and head under one rule are one group.
    """
    config = model.config
    globs = {
        f"layer {layer} {part}": tuple(f"{LAYERS}{layer}.{name}" for name in names)
        for layer in range(config.num_hidden_layers)
        for part, names in PARTS.items()
    }
    if config.tie_word_embeddings and recipe.rule_for(HEAD) == recipe.rule_for(EMBEDDING):
        globs["head and embedding"] = (HEAD, EMBEDDING)
    else:
        globs |= {"head": (HEAD,), "embedding": (EMBEDDING,)}
    groups = []
    for name, matches in globs.items():
        any_of = QuantRecipe(rules=tuple(finer.model_copy(update={"match": match}) for match in matches))
        weights = [weight for weight, _ in weight_modules(model) if any_of.rule_for(weight)]
        own = [(weight, recipe.rule_for(weight)) for weight in weights]
        rules = tuple(r.model_copy(update={"match": w}) for w, r in own if r is not None and r.bits < finer.bits)
        if rules:
            groups.append(WeightGroup(name, rules, any_of.rules))
    return groups


def measure_sensitivity(
    policy: Policy,
    groups: Sequence[WeightGroup],
    prompts: Sequence[str],
    storage: Storage,
    on_progress: Progress | None = None,
) -> list[Sensitivity]:
    """Each of ``groups`` rounded to nearest alone against the float policy on its rollouts over ``prompts``.

    What comes before a group's first layer is computed once for all groups. ``storage``: what finer rules cost.
    """
    batches = record_rollouts(policy, prompts)
    entering = [_entering(policy.model, batch) for batch in batches]
    depth = policy.model.config.num_hidden_layers
    before = [_traits(policy.model, policy, b, x, depth) for b, x in zip(batches, entering, strict=True)]
    shapes, tied = weight_shapes(policy.model), policy.model.config.tie_word_embeddings
    found = []
    for index, group in enumerate(groups, start=1):
        model = quantize_model(policy.model, QuantRecipe(rules=group.rules))
        first = _first_layer(group, depth)
        shift, changed, divergence, places, decisions, rollouts = 0.0, 0, 0.0, 0, 0, 0
        for batch, x, float_traits in zip(batches, entering, before, strict=True):
            traits = _traits(model, policy, batch, x, first)
            shift += float((traits.margins - float_traits.margins).abs().sum())
            other = traits.chosen != float_traits.chosen
            changed += len(float_traits.rows[other].unique())
            lost = float_traits.log_probs.exp() * (float_traits.log_probs - traits.log_probs)
            divergence += float(lost.sum())
            places, decisions = places + len(other), decisions + len(traits.margins)
            rollouts += len(batch.tokens)
        finer, own = (matched_bytes(shapes, rules, storage, tied) for rules in (group.finer, group.rules))
        cost = (finer - own) / 1e6
        found.append(Sensitivity(group, shift / max(decisions, 1), changed / rollouts, divergence / places, cost))
        if on_progress is not None:
            on_progress(index, len(groups))
    return found


def spend(found: Sequence[Sensitivity], budget_mb: float) -> list[QuantRule]:
    """The finer rules worth having for ``budget_mb`` in all: the most divergence saved per megabyte first."""
    chosen: list[QuantRule] = []
    for item in sorted(found, key=lambda item: item.worth, reverse=True):
        if item.extra_mb <= budget_mb:
            chosen += item.group.finer
            budget_mb -= item.extra_mb
    return chosen


def _first_layer(group: WeightGroup, depth: int) -> int:
    """The first layer whose work the group's weights change: -1 with the embedding, ``depth`` for the head alone."""
    names = [rule.match for rule in group.rules]
    if EMBEDDING in names:
        return -1
    return min(int(name.split(".")[2]) if name.startswith(LAYERS) else depth for name in names)


@torch.no_grad()
def _entering(model: PolicyModel, batch: RolloutBatch) -> list[Tensor]:
    """What each layer of ``model`` reads of ``batch``, and last what the final norm reads: (n, T, hidden) each."""
    return _run(model, batch, model.embed(batch.tokens), 0)


def _run(model: PolicyModel, batch: RolloutBatch, x: Tensor, first: int) -> list[Tensor]:
    """``x``, the input of layer ``first``, and the output of each layer from there on."""
    positions, attend = causal(batch.tokens, None)
    rotations = model.rotations(positions)
    states = [x]
    for layer in range(first, len(model.model.layers)):
        states.append(model.model.layers[layer](states[-1], rotations, attend))
    return states


@torch.no_grad()
def _traits(model: PolicyModel, policy: Policy, batch: RolloutBatch, entering: list[Tensor], first: int) -> _Traits:
    """``model``'s traits; up to layer ``first`` (-1: from the embedding on) it is the model of ``entering``."""
    x = model.embed(batch.tokens) if first < 0 else entering[first]
    last = _run(model, batch, x, max(first, 0))[-1]
    logits = model.lm_head(model.head_input(last[batch.responds]))
    decides = batch.decides[batch.responds]
    rows = torch.arange(len(batch.tokens), device=batch.tokens.device)[:, None].expand_as(batch.tokens)[batch.responds]
    choices = logits.index_fill(-1, policy.model.without_token, -torch.inf)
    chosen, margins = choices.argmax(-1), logits.new_empty(len(batch.markers), dtype=torch.float64)
    places, bias = decides.nonzero()[:, 0], policy.routing.marker_bias
    for candidates in set(batch.markers):  # one, unless markers have several tokens
        same = torch.tensor([markers == candidates for markers in batch.markers], device=logits.device)
        found = contest(choices[places[same]].cpu().numpy(), candidates)
        margins[same] = torch.from_numpy(found.margin + bias).to(logits.device)
        decided = np.where(calls(found.margin, bias), found.marker, found.other)
        chosen[places[same]] = torch.from_numpy(decided).to(logits.device)
    return _Traits(margins, chosen, rows, logits.log_softmax(-1))
