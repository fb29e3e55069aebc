"""GPTQ rounding (Frantar et al., arXiv 2210.17323) on the policy's own rollouts, layer after layer.

Each linear is rounded for the inputs that it will really see: those of the already quantized layers before it.
Its target is first moved to the weight that, on those inputs, comes nearest to what the float linear answers on
its own (least squares), so that a layer undoes part of the error of the layers before it. A weight that lies on
its grid already keeps its integers: it was trained as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from edgekit.policy.activations import round_activations
from edgekit.policy.attention import Attend, causal
from edgekit.policy.model import Block, PolicyModel, Rotations
from edgekit.progress import Progress
from edgekit.quantize.integers import (
    IntegerWeight,
    QuantizedEmbedding,
    QuantizedLinear,
    forget_floats,
    quantize_weight,
)
from edgekit.quantize.rollouts import RolloutBatch
from edgekit.recipes.quant_recipe import QuantRecipe

DAMPING = 0.01
"""Added to the second moments' diagonal, as a share of its mean."""
ROWS, COLUMNS = 8192, 64
"""Rows rounded at once, which bounds the memory; columns whose errors reach the later ones together."""
STAGES = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""A block's linears in the order in which they are reached; those of a stage read the same input."""


@dataclass(frozen=True)
class Moments:
    """Second moments of a linear's inputs, (in, in) float64 each.

    own: sum of x' x'^T over the inputs x' it will see; cross: sum of x x'^T, x being the float model's input.
    """

    own: Tensor
    cross: Tensor

    @cached_property
    def damped(self) -> Tensor:
        """``own`` with :data:`DAMPING` on its diagonal: positive definite whatever the inputs were."""
        diagonal = self.own.diagonal()
        damping = (DAMPING * diagonal.mean()).clamp(min=1e-12)
        return self.own + torch.eye(len(diagonal), dtype=self.own.dtype, device=self.own.device) * damping

    @cached_property
    def drift(self) -> Tensor:
        """D (in, in) float32: V = W + W D is the weight whose answers V x' come nearest to W x, damped towards W."""
        return torch.linalg.solve(self.damped, (self.cross - self.own).t()).t().float()


def weighted_error(weight: Tensor, rounded: IntegerWeight, hessian: Tensor) -> Tensor:
    """(out,) float64: each row's e H e^T for e = weight (out, in) - rounded; H (in, in) float64."""
    error = weight.double() - rounded.dequantize().double()
    return ((error @ hessian) * error).sum(-1)


def round_gptq(weight: Tensor, hessian: Tensor, bits: int, group_size: int, keep_ends: bool = False) -> IntegerWeight:
    """Round ``weight`` (out, in) on :func:`quantize_weight`'s scales, each column's error spread over the later ones.

    ``hessian`` (in, in) float64, positive definite. Columns go by falling diagonal. Rows that nearest rounding
    serves better keep it, so no row's :func:`weighted_error` exceeds nearest's; equal to it for a diagonal H.
    ``keep_ends`` leaves each group's largest weight at the end of its grid: rounding the result to nearest then
    finds the same scales, and so the same integers.
    """
    order = torch.argsort(hessian.diagonal(), descending=True, stable=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian[order][:, order]))
    spread = torch.linalg.cholesky(inverse, upper=True).float()
    parts = []
    for rows in weight.detach().float().split(ROWS):
        nearest = quantize_weight(rows, bits, group_size)
        spread_out = _spread_errors(rows, nearest, order, spread, keep_ends)
        better = weighted_error(rows, spread_out, hessian) < weighted_error(rows, nearest, hessian)
        parts.append((torch.where(better[:, None], spread_out.values, nearest.values), nearest.scales))
    values, scales = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return IntegerWeight(values, scales, bits)


def _spread_errors(
    weight: Tensor, grid: IntegerWeight, order: Tensor, spread: Tensor, keep_ends: bool
) -> IntegerWeight:
    """The columns of ``weight`` rounded in ``order`` on ``grid``'s scales; row i of ``spread`` says where errors go."""
    largest = 2 ** (grid.bits - 1) - 1
    # Column after column, so columns are rows here: contiguous.
    left = weight.t()[order].clone()
    scales = grid.scales.repeat_interleave(grid.group_size, 1).t()[order].contiguous()
    values = torch.empty_like(left)
    ends = grid.values.t()[order].float()
    for begin in range(0, len(left), COLUMNS):
        end = min(begin + COLUMNS, len(left))
        errors = left.new_empty(end - begin, left.shape[1])
        for column in range(begin, end):
            values[column] = (left[column] / scales[column]).round().clamp(-largest, largest)
            if keep_ends:
                values[column] = torch.where(ends[column].abs() == largest, ends[column], values[column])
            error = (left[column] - values[column] * scales[column]) / spread[column, column]
            left[column + 1 : end].addr_(spread[column, column + 1 : end], error, alpha=-1)
            errors[column - begin] = error
        left[end:].addmm_(spread[begin:end, end:].t(), errors, alpha=-1)  # the far columns, all at once
    back = torch.argsort(order)
    return IntegerWeight(values[back].t().contiguous().to(torch.int8), grid.scales, grid.bits)


def round_for_inputs(
    weight: Tensor, moments: Moments, bits: int, group_size: int, keep_ends: bool = False
) -> IntegerWeight:
    """``weight`` (out, in) moved to the least-squares target of ``moments``, then rounded by :func:`round_gptq`."""
    # argmin over V of sum |W x - V x'|^2, damped towards W: V = W + W (cross - own) damped^-1.
    target = weight.detach() + weight.detach() @ moments.drift
    return round_gptq(target, moments.damped, bits, group_size, keep_ends)


@torch.no_grad()
def calibrate_linears(
    model: PolicyModel,
    quantized: PolicyModel,
    recipe: QuantRecipe,
    batches: Sequence[RolloutBatch],
    on_progress: Progress | None = None,
    keep_ends: bool = False,
) -> None:
    """Replace, in ``quantized``, each layer's integer linears by ones rounded on ``batches``, first layer to last.

    ``quantized`` is ``model`` rounded to nearest. The head is calibrated on the places that choose a token: after the
    layers, or, where it shares its table with the embedding, before them on the float model's hidden states.
    ``keep_ends``: see :func:`round_gptq`.
    """
    shared = shares_table(quantized)
    if shared:
        _round_shared_table(model, quantized, recipe, batches, keep_ends)
    floats = [model.embed(batch.tokens) for batch in batches]
    seen = [quantized.embed(batch.tokens) for batch in batches]
    real = [batch.real for batch in batches]
    layers = len(model.model.layers)
    for layer in range(layers):
        theirs = [_stages(model, layer, x, batch) for x, batch in zip(floats, batches, strict=True)]
        ours = [_stages(quantized, layer, x, batch) for x, batch in zip(seen, batches, strict=True)]
        for names in STAGES:
            before, after = [next(walk) for walk in theirs], [next(walk) for walk in ours]
            linears = [f"model.layers.{layer}.{name}" for name in names]
            _replace(model, quantized, linears, recipe, before, after, real, keep_ends)
        floats, seen = [next(walk) for walk in theirs], [next(walk) for walk in ours]
        forget_floats(quantized.model.layers[layer])
        if on_progress is not None:
            on_progress(layer + 1, layers)
    before, after = [model.head_input(x) for x in floats], [quantized.head_input(x) for x in seen]
    if not shared:
        _replace(model, quantized, ["lm_head"], recipe, before, after, [batch.responds for batch in batches], keep_ends)


def shares_table(quantized: PolicyModel) -> bool:
    """True if the embedding and the head hold one table of integers."""
    return getattr(quantized.model.embed_tokens, "values", None) is getattr(quantized.lm_head, "values", quantized)


def _round_shared_table(
    model: PolicyModel, quantized: PolicyModel, recipe: QuantRecipe, batches: Sequence[RolloutBatch], keep_ends: bool
) -> None:
    hidden = [model.hidden(batch.tokens, *causal(batch.tokens, None)) for batch in batches]
    _replace(model, quantized, ["lm_head"], recipe, hidden, hidden, [batch.responds for batch in batches], keep_ends)
    head = quantized.lm_head
    if isinstance(head, QuantizedLinear):
        quantized.model.embed_tokens = QuantizedEmbedding(IntegerWeight(head.values, head.scales, head.bits))


def _stages(model: PolicyModel, layer: int, x: Tensor, batch: RolloutBatch) -> Iterator[Tensor]:
    """One block's work on x (n, T, hidden): yields each of STAGES' inputs, at last the block's output.

    Whoever reads it may replace a stage's linears before asking for the next.
    """
    block = model.model.layers[layer]
    assert isinstance(block, Block)
    positions, attend = causal(batch.tokens, None)
    normed = block.input_layernorm(x)
    yield normed
    context = _input_of(block.self_attn.o_proj, block.self_attn, normed, model.rotations(positions), attend)
    yield context
    x = block.add(x, block.attention_output_norm(block.self_attn.o_proj(context)))
    normed = block.post_attention_layernorm(x)
    yield normed
    inner = _input_of(block.mlp.down_proj, block.mlp, normed)
    yield inner
    yield block.add(x, block.mlp_output_norm(block.mlp.down_proj(inner)))


class _ReachedError(Exception):
    """A linear's input is known; what would follow is not needed."""


def _input_of(linear: nn.Module, module: nn.Module, *arguments: Tensor | Rotations | Attend) -> Tensor:
    """What ``linear`` reads when ``module`` runs on ``arguments``."""
    caught: list[Tensor] = []

    def catch(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        caught.append(inputs[0])
        raise _ReachedError

    hook = linear.register_forward_pre_hook(catch)
    try:
        module(*arguments)
    except _ReachedError:
        pass
    finally:
        hook.remove()
    return caught[0]


def _replace(
    model: PolicyModel,
    quantized: PolicyModel,
    names: Sequence[str],
    recipe: QuantRecipe,
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    masks: Sequence[Tensor],
    keep_ends: bool,
) -> None:
    """Put the linears ``names``, rounded for the inputs ``after``, in their places where a rule gives them integers."""
    known: dict[int, Moments] = {}  # by the block in which activations are rounded: one for a stage, as a rule
    for name in names:
        rule = recipe.rule_for(name)
        if rule is None or rule.bits > 8 or rule.palette:
            continue
        linear, nearest = model.get_submodule(name), quantized.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        assert isinstance(nearest, QuantizedLinear)
        if torch.equal(nearest.dequantized, linear.weight):
            continue  # it was trained on this grid: its integers are what it is
        block = rule.group_size or linear.in_features
        if block not in known:
            known[block] = _moments(before, after, masks, recipe.activations, block)
        rounded = round_for_inputs(linear.weight, known[block], rule.bits, rule.group_size, keep_ends)
        parent, _, child = name.rpartition(".")
        setattr(quantized.get_submodule(parent), child, QuantizedLinear(rounded, linear.bias, recipe.activations))


def _moments(
    before: Sequence[Tensor], after: Sequence[Tensor], masks: Sequence[Tensor], activations: str, block: int
) -> Moments:
    """The moments of inputs (n, T, in) where ``masks`` (n, T) are true; a kernel rounds ``after`` first."""
    width = before[0].shape[-1]
    own, cross = (before[0].new_zeros(width, width, dtype=torch.float64) for _ in range(2))
    for theirs, ours, mask in zip(before, after, masks, strict=True):
        x = round_activations(ours[mask], activations, block)
        own += x.t() @ x
        cross += theirs[mask].t() @ x
    return Moments(own, cross)
