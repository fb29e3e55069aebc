"""Norm and rotation as they are trained: the plain ones' numbers in fewer passes over memory.

Where bfloat16 products are fast, a training step waits for what lies between them. Autograd would keep and read again
what each small operation made; written by hand, forward and backward read their input once or twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

ROWS = 256
"""Rows of a norm's backward pass at a time: what it makes of them stays in the cache."""


def trained_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight * x / sqrt(mean(x^2) + eps) over the last axis of x (..., D), with a gradient; all of one type."""
    normed: Tensor = _Norm.apply(x, weight, eps)
    return normed


def trained_rotation(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (..., D) rotated in the planes of channels i and i + D/2; cos and sin (..., D) are broadcast to it.

    Both halves of ``cos``, and of ``sin``, are equal, so the gradient is rotated back.
    """
    rotated: Tensor = _Rotation.apply(x, cos, sin)
    return rotated


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rate = x.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, rate)
        return (x * rate).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, rate = ctx.saved_tensors
        width = x.shape[-1]
        grad, x, rate = grads[0].reshape(-1, width), x.reshape(-1, width), rate.reshape(-1, 1)
        x_grad = torch.empty_like(x)
        weight_grad = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for begin in range(0, len(x), ROWS):
            rows = slice(begin, begin + ROWS)
            normed = x[rows] * rate[rows]
            product = grad[rows] * normed
            if weight_grad is not None:
                weight_grad += product.sum(0)
            # With y = x * rate: dx = rate * (w * g - y * mean(w * g * y)).
            shared = (product @ weight).div_(-width)[:, None]
            torch.addcmul(grad[rows] * weight, normed, shared, out=x_grad[rows]).mul_(rate[rows])
        return x_grad.view(grads[0].shape), weight_grad, None


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _rotated(grads[0], cos, sin, -1), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    half = x.shape[-1] // 2
    y = x * cos
    y[..., :half].sub_(x[..., half:] * sin[..., :half], alpha=direction)
    y[..., half:].add_(x[..., :half] * sin[..., half:], alpha=direction)
    return y
