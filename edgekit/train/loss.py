"""The policy-gradient loss: minus the advantage-weighted log-probability of whole responses."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekit.policy.activations import entering
from edgekit.policy.attention import Attend, attention, causal, product_dtype, visible
from edgekit.policy.model import PolicyModel
from edgekit.train.batches import Batch
from edgekit.train.head import chosen_log_probs


def response_log_probs(model: PolicyModel, batch: Batch, temperature: float, *, checkpointing: bool = False) -> Tensor:
    """log pi(y | x) (n,) of each response: the sum over its tokens, at the sampling temperature."""
    tokens, owner = token_log_probs(model, batch, temperature, checkpointing=checkpointing)
    return sequence_log_probs(tokens, owner, len(batch.responses))


def sequence_log_probs(tokens: Tensor, owner: Tensor, responses: int) -> Tensor:
    """Sums (responses,) of ``tokens`` (m,) by the response ``owner`` (m,) of each."""
    return tokens.new_zeros(responses).index_add(0, owner, tokens)


def token_log_probs(
    model: PolicyModel, batch: Batch, temperature: float, *, checkpointing: bool = False
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (m,) of the responses' tokens, one response after another, and each one's response (m,).

    A prompt goes through the model once; its responses attend to its keys and values. ``checkpointing`` keeps
    only the blocks' inputs for the gradient and computes the rest again: less memory, a third more work, the
    same gradient to the last bit.
    """
    past: dict[int, tuple[Tensor, Tensor]] = {}
    positions, attend = causal(batch.prompts, batch.padding if bool(batch.padding.any()) else None)

    def attend_and_keep(layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        if q.device.type != "cpu":  # on a CPU attention has no smaller type
            k, v = k.to(product_dtype(q)), v.to(product_dtype(q))
        past.setdefault(layer, (k, v))  # a block that is computed again must not replace them
        return attend(layer, q, k, v, window)

    ends = model.hidden(batch.prompts, positions, attend_and_keep, checkpointing=checkpointing)[:, -1:]
    hidden = ends.index_select(0, batch.owner)  # (n, 1, hidden): where each response's first token is chosen
    inputs = batch.responses[:, :-1]
    if inputs.shape[1]:
        after = model.hidden(inputs, *_after(batch, past), checkpointing=checkpointing)
        hidden = torch.cat([hidden, after], dim=1)
    learned = batch.mask.flatten().nonzero()[:, 0]
    ids = batch.responses.flatten().index_select(0, learned)
    read = entering(model.lm_head, hidden.flatten(0, 1).index_select(0, learned))
    log_probs = chosen_log_probs(read, model.lm_head.weight, ids, temperature, model.without_token)
    return log_probs, learned.div(batch.responses.shape[1], rounding_mode="floor")


def _after(batch: Batch, past: dict[int, tuple[Tensor, Tensor]]) -> tuple[Tensor, Attend]:
    """Positions (n, R - 1) and the attention of responses to their prompts and themselves."""
    width, length = batch.prompts.shape[1], batch.responses.shape[1] - 1
    device = batch.prompts.device
    index = torch.arange(length, device=device)
    padding = batch.padding[batch.owner]  # (n,)
    seen = torch.arange(width, device=device)[None, :] >= padding[:, None]
    # Right padding needs no mask: nothing after a response is read.
    real = F.pad(seen, (0, length), value=True)[:, None, None, :]  # (n, 1, 1, width + length)
    places = torch.arange(width + length, device=device)

    @cache
    def mask(window: int | None) -> Tensor:
        return real & visible(places[width:, None], places, window)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        keys, values = past[layer]
        k = torch.cat([keys.index_select(0, batch.owner), k.to(keys.dtype)], dim=2)
        v = torch.cat([values.index_select(0, batch.owner), v.to(values.dtype)], dim=2)
        return attention(q, k, v, mask(window))

    return width - padding[:, None] + index[None, :], attend


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor, prompts: int) -> Tensor:
    """Scalar whose negative gradient is sum_i A_i grad log pi(y_i | x) over all groups, divided by ``prompts``.

    log_probs, advantages: (n,), of any subset of the groups' responses that holds every non-zero advantage.
    """
    return -(advantages * log_probs).sum() / prompts
