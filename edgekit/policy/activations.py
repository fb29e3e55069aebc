"""What a quantized linear's kernel makes of its input, and the linear that rounds so while it is trained.

Integer kernels round activations as they run. A policy trained on such a grid is the one that rounds them too, so
its model does wherever it is: in rollouts, update, evaluation and as the reference of its artifact.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekit.recipes.quant_recipe import Activations, QuantRecipe


@torch.no_grad()
def fake_quantize_activations(x: Tensor) -> Tensor:
    """Round each token's vector (..., in) to 8 bits asymmetric and back, as XNNPACK's dynamic linears do.

    The order of operations is XNNPACK's: it multiplies by 255 / range and adds the zero point to integers. Another
    order rounds values near a tie the other way. No gradient passes.
    """
    low = x.amin(-1, keepdim=True).clamp_(max=0)
    high = x.amax(-1, keepdim=True).clamp_(min=0)
    steps = torch.where(high > low, 255 / (high - low), 1.0)
    from_low, from_high = low * steps, high * steps
    zero = torch.where(from_low + from_high > 1, -128 - from_low, 127 - from_high).clamp_(-128, 127).round_()
    # In place, for each pass over memory counts; clamp_ with two tensors is slower than these two.
    integers = (x * steps).round_()
    torch.maximum(integers, -128 - zero, out=integers)
    torch.minimum(integers, 127 - zero, out=integers)
    return integers.mul_(1 / steps)


@torch.no_grad()
def fake_quantize_blocks(x: Tensor, block: int) -> Tensor:
    """Round each ``block`` of each token's vector (..., in) to 8 bits symmetric and back (accuracy level 4).

    No gradient passes.
    """
    grouped = x.unflatten(-1, (-1, block))
    scale = grouped.abs().amax(-1, keepdim=True).div_(127).clamp_(min=torch.finfo(torch.float32).tiny)
    return (grouped / scale).round_().mul_(scale).flatten(-2)


def runtime_block(group: int) -> int:
    """The block of a vector that ONNX Runtime rounds when ``group`` inputs share a weight scale.

    Its kernels know blocks that are a power of two, here up to 128; a longer or odd group is cut into them.
    Its x86 kernels round exactly so; ARM kernels from KleidiAI may round a whole vector instead.
    """
    return min(group & -group, 128)


def round_activations(x: Tensor, activations: str, group: int) -> Tensor:
    """What a quantized linear's kernel makes of its input (..., in): see :class:`QuantRecipe`."""
    if activations == "int8":
        return fake_quantize_activations(x)
    return fake_quantize_blocks(x, runtime_block(group)) if activations == "int8_block" else x


class _StraightThrough(torch.autograd.Function):
    """Rounded in float32 on the way forward, the identity on the way back (Bengio et al., arXiv 1308.3432)."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor, activations: Activations, group: int) -> Tensor:
        return round_activations(x.float(), activations, group).to(x.dtype)

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None, None


class InputRounding:
    """``round_activations`` with a gradient. What it rounded last it gives again: q, k and v read one input."""

    def __init__(self, activations: Activations, group: int) -> None:
        self.activations: Activations = activations
        self.group = group
        self._last: tuple[weakref.ref[Tensor], Tensor] | None = None  # what came in, and it rounded

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` (..., in) rounded; its gradient passes as if it were not."""
        last = self._last
        if last is not None and last[0]() is x:
            return last[1]
        rounded: Tensor = _StraightThrough.apply(x, self.activations, self.group)
        self._last = weakref.ref(x), rounded
        return rounded

    def __deepcopy__(self, memo: dict[int, Any]) -> InputRounding:
        return InputRounding(self.activations, self.group)


class RoundingLinear(nn.Linear):
    """A linear whose input is rounded as an integer kernel rounds it; weight and bias are ``linear``'s own."""

    def __init__(self, linear: nn.Linear, rounding: InputRounding) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.round_input = rounding

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.round_input(x), self.weight, self.bias)


def entering(linear: nn.Linear, x: Tensor) -> Tensor:
    """What ``linear`` multiplies when it is given ``x``: itself, or rounded."""
    return linear.round_input(x) if isinstance(linear, RoundingLinear) else x


def round_inputs(model: nn.Module, recipe: QuantRecipe) -> None:
    """Let each linear of ``model`` that ``recipe`` gives integers round its input as the recipe says, in place."""
    if recipe.activations == "float":
        return
    shared: dict[tuple[str, int], InputRounding] = {}
    for name, linear in list(model.named_modules()):
        rule = recipe.rule_for(name) if isinstance(linear, nn.Linear) else None
        if rule is None or rule.bits > 8 or rule.palette:
            continue
        assert isinstance(linear, nn.Linear)
        parent, _, child = name.rpartition(".")
        group = rule.group_size or linear.in_features
        rounding = shared.setdefault((parent, group), InputRounding(recipe.activations, group))
        setattr(model.get_submodule(parent), child, RoundingLinear(linear, rounding))


def plain_inputs(model: nn.Module) -> None:
    """Undo :func:`round_inputs`: every linear of ``model`` takes its input as it is."""
    for name, linear in list(model.named_modules()):
        if isinstance(linear, RoundingLinear):
            with torch.device("meta"):
                plain = nn.Linear(linear.in_features, linear.out_features, bias=linear.bias is not None)
            plain.weight, plain.bias = linear.weight, linear.bias
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, plain)
