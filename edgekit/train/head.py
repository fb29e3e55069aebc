"""Log-probabilities of chosen tokens without the logits of the whole batch.

A batch of n tokens over a vocabulary of V has n x V logits, and their gradient once more: for a language model
the largest tensors of a training step by far. Here they exist a tile of rows and columns at a time, small enough to
stay in a processor's cache, in the forward pass and, computed again, in the backward pass. The numbers are those of
the plain computation, up to the order of addition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

LOGITS_AT_ONCE = {"cpu": 1_000_000, "cuda": 128_000_000}
"""By device: 4 MB in float32, which stay in the cache; what keeps a GPU busy."""
ROWS_AT_ONCE, FEWEST_COLUMNS = 2048, 256
"""Larger and smaller tiles were no faster (760 to 3,000 rows on a Xeon with AMX)."""


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
    """Forward keeps only each row's normalizer; backward makes each tile's probabilities from it once more."""

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
        chosen = torch.zeros(len(ids), dtype=exact, device=hidden.device)
        normalizer = torch.empty_like(chosen)
        for rows in _slices(len(ids), ROWS_AT_ONCE):
            read, parts = hidden[rows].to(dtype), []
            for columns, products in _columns(weight, len(read), dtype):
                logits = _logits(read, products, temperature, exact, _inside(without, columns))
                parts.append(logits.logsumexp(-1))
                at, inside = _places(ids[rows], columns)
                chosen[rows] += logits.gather(-1, at)[:, 0].where(inside, 0.0)
            normalizer[rows] = torch.stack(parts).logsumexp(0)
        ctx.save_for_backward(hidden, weight, ids, normalizer)
        ctx.temperature, ctx.dtype, ctx.without = temperature, dtype, without
        return chosen - normalizer

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, ids, normalizer = ctx.saved_tensors
        scale = grads[0] / ctx.temperature
        hidden_grad = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        weight_grad = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for rows in _slices(len(ids), ROWS_AT_ONCE):
            read = hidden[rows].to(ctx.dtype)
            for columns, products in _columns(weight, len(read), ctx.dtype):
                without = _inside(ctx.without, columns)
                slope = _logits(read, products, ctx.temperature, normalizer.dtype, without)
                # d log p / d logits = one-hot - p
                slope.sub_(normalizer[rows, None]).exp_().mul_(-scale[rows, None])
                at, inside = _places(ids[rows], columns)
                slope.scatter_add_(-1, at, scale[rows].where(inside, 0.0)[:, None])
                slope = slope.to(ctx.dtype)
                if hidden_grad is not None:
                    _add_product(hidden_grad[rows], slope, products)
                if weight_grad is not None:
                    _add_product(weight_grad[columns], slope.t(), read)
        return hidden_grad, weight_grad, None, None, None, None


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(begin, min(begin + size, length)) for begin in range(0, length, size))


def _columns(weight: Tensor, rows: int, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """Tiles of the vocabulary for so many rows: their place, and their weights in ``dtype``."""
    at_once = LOGITS_AT_ONCE.get(weight.device.type, LOGITS_AT_ONCE["cpu"])
    tiles = -(-len(weight) // max(FEWEST_COLUMNS, at_once // rows))
    for columns in _slices(len(weight), -(-len(weight) // tiles)):
        yield columns, weight[columns].to(dtype)


def _places(ids: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """Where ``ids`` (n,) stand in a tile, (n, 1), and whether they do, (n,)."""
    at = ids - columns.start
    width = columns.stop - columns.start
    return at.clamp(0, width - 1)[:, None], (at >= 0) & (at < width)


def _inside(ids: Tensor | None, columns: slice) -> Tensor | None:
    """Those of ``ids`` that stand in a tile, by their places in it."""
    if ids is None or not len(ids):
        return None
    return ids[(ids >= columns.start) & (ids < columns.stop)] - columns.start


def _logits(read: Tensor, weight: Tensor, temperature: float, dtype: torch.dtype, without: Tensor | None) -> Tensor:
    logits = (read @ weight.t()).to(dtype)
    if without is not None:
        logits[:, without] = -torch.inf
    return logits if temperature == 1.0 else logits.div_(temperature)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)
