"""Log-probabilities of chosen tokens without the logits of the whole batch.

A batch of n tokens over a vocabulary of V has n x V logits, and their gradient once more: for a language model
the largest tensors of a training step by far. Here they exist for a few hundred tokens at a time, in the forward
pass and, computed again, in the backward pass. The numbers are those of the plain computation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LOGITS_AT_ONCE = {"cpu": 16_000_000, "cuda": 128_000_000}
"""By device: few enough to be cheap (64 MB in float32; 512 MB) and enough rows that products run at full speed."""


def chosen_log_probs(
    hidden: Tensor, weight: Tensor, ids: Tensor, temperature: float, without: Tensor | None = None
) -> Tensor:
    """log softmax(hidden @ weight.T / temperature)[i, ids[i]], (n,), at least in float32.

    hidden (n, d), weight (V, d), ids (n,) int64. The rows ``without`` (m,) int64 take no part. Under autocast the
    products are taken in its type.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    with torch.autocast(kind, enabled=False):
        log_probs: Tensor = _ChosenLogProbs.apply(hidden, weight, ids, temperature, dtype, without)
    return log_probs


class _ChosenLogProbs(torch.autograd.Function):
    """Forward keeps only each row's normalizer; backward makes each chunk's probabilities from it once more."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        ids: Tensor,
        temperature: float,
        dtype: torch.dtype,
        without: Tensor | None,
    ) -> Tensor:
        exact = torch.promote_types(dtype, torch.float32)
        chosen = torch.empty(len(ids), dtype=exact, device=hidden.device)
        normalizer = torch.empty_like(chosen)
        products = weight.to(dtype)
        for rows in _chunks(len(ids), weight):
            logits = _logits(hidden[rows], products, temperature, exact, without)
            normalizer[rows] = logits.logsumexp(-1)
            chosen[rows] = logits.gather(-1, ids[rows, None])[:, 0]
        ctx.save_for_backward(hidden, weight, ids, normalizer)
        ctx.temperature, ctx.dtype, ctx.without = temperature, dtype, without
        return chosen - normalizer

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, ids, normalizer = ctx.saved_tensors
        scale = (grads[0] / ctx.temperature)[:, None]
        products = weight.to(ctx.dtype)
        hidden_grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        weight_grad = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for rows in _chunks(len(ids), weight):
            slope = _logits(hidden[rows], products, ctx.temperature, normalizer.dtype, ctx.without)
            # d log p / d logits = one-hot - p
            slope.sub_(normalizer[rows, None]).exp_().mul_(-scale[rows])
            slope.scatter_add_(-1, ids[rows, None], scale[rows])
            slope = slope.to(ctx.dtype)
            if hidden_grad is not None:
                hidden_grad[rows] = (slope @ products).to(hidden.dtype)
            if weight_grad is not None:
                _add_product(weight_grad, slope.t(), hidden[rows].to(ctx.dtype))
        return hidden_grad, weight_grad, None, None, None, None


def _chunks(rows: int, weight: Tensor) -> list[slice]:
    size = max(1, LOGITS_AT_ONCE.get(weight.device.type, LOGITS_AT_ONCE["cpu"]) // len(weight))
    return [slice(begin, begin + size) for begin in range(0, rows, size)]


def _logits(hidden: Tensor, weight: Tensor, temperature: float, dtype: torch.dtype, without: Tensor | None) -> Tensor:
    logits = (hidden.to(weight.dtype) @ weight.t()).to(dtype)
    if without is not None and len(without):
        logits[:, without] = -torch.inf
    return logits if temperature == 1.0 else logits.div_(temperature)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)
