"""The policy-gradient loss: minus the advantage-weighted log-probability of whole responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.policy.model import Attend, PolicyModel, attention, causal


@dataclass(frozen=True)
class Sample:
    """One sampled response with its prompt's token ids and its advantage."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    advantage: float


@dataclass(frozen=True)
class Batch:
    """Samples as tensors. Each distinct prompt stands there once, however many responses it has.

    prompts (p, S) int64, left-padded by padding (p,); responses (n, R) int64, right-padded, with their prompt's
    row owner (n,); mask (n, R) float32, 1 for every token of the response, the deciding one included;
    advantages (n,) float32.
    """

    prompts: Tensor
    padding: Tensor
    responses: Tensor
    owner: Tensor
    mask: Tensor
    advantages: Tensor


def collate(samples: Sequence[Sample]) -> Batch:
    """Pad ``samples`` (at least one) into a :class:`Batch`."""
    distinct = {sample.prompt_ids: 0 for sample in samples}
    rows = {prompt: row for row, prompt in enumerate(distinct)}
    width = max(len(prompt) for prompt in rows)
    longest = max(len(sample.response_ids) for sample in samples)
    prompts = torch.tensor([[*[0] * (width - len(prompt)), *prompt] for prompt in rows])
    responses = torch.zeros(len(samples), longest, dtype=torch.int64)
    mask = torch.zeros(len(samples), longest)
    for row, sample in enumerate(samples):
        responses[row, : len(sample.response_ids)] = torch.tensor(sample.response_ids)
        mask[row, : len(sample.response_ids)] = 1
    padding = torch.tensor([width - len(prompt) for prompt in rows])
    owner = torch.tensor([rows[sample.prompt_ids] for sample in samples])
    return Batch(prompts, padding, responses, owner, mask, torch.tensor([sample.advantage for sample in samples]))


def response_log_probs(model: PolicyModel, batch: Batch, temperature: float) -> Tensor:
    """log pi(y | x) (n,) of each response: the sum over its tokens, at the sampling temperature.

    A prompt goes through the model once; its responses attend to its keys and values.
    """
    past: list[tuple[Tensor, Tensor]] = []
    positions, attend = causal(batch.prompts, batch.padding if bool(batch.padding.any()) else None)

    def attend_and_keep(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        past.append((k, v))
        return attend(layer, q, k, v)

    ends = model.hidden(batch.prompts, positions, attend_and_keep)[:, -1:]
    hidden = ends.index_select(0, batch.owner)  # (n, 1, hidden): where each response's first token is chosen
    inputs = batch.responses[:, :-1]
    if inputs.shape[1]:
        hidden = torch.cat([hidden, model.hidden(inputs, *_after(batch, past))], dim=1)
    learned = batch.mask.bool()
    logits = model.lm_head(hidden[learned]) / temperature
    log_probs = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))  # autocast's are not
    chosen = torch.zeros_like(batch.mask, dtype=log_probs.dtype)
    chosen[learned] = log_probs.gather(-1, batch.responses[learned][:, None])[:, 0]
    return chosen.sum(-1)


def _after(batch: Batch, past: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Attend]:
    """Positions (n, R - 1) and the attention of responses to their prompts and themselves."""
    width, length = batch.prompts.shape[1], batch.responses.shape[1] - 1
    index = torch.arange(length)
    padding = batch.padding[batch.owner]  # (n,)
    real = (torch.arange(width)[None, :] >= padding[:, None])[:, None, None, :].expand(-1, 1, length, width)
    # Right padding needs no mask: nothing after a response is read.
    earlier = (index[None, :] <= index[:, None]).expand(len(padding), 1, length, length)
    mask = torch.cat([real, earlier], dim=-1)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = past[layer]
        k = torch.cat([keys.index_select(0, batch.owner), k], dim=2)
        v = torch.cat([values.index_select(0, batch.owner).to(v.dtype), v], dim=2)
        return attention(q, k, v, mask)

    return width - padding[:, None] + index[None, :], attend


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor, prompts: int) -> Tensor:
    """Scalar whose negative gradient is the mean over ``prompts`` groups of sum_i A_i grad log pi(y_i | x).

    log_probs, advantages: (n,), of any subset of the groups' responses that holds every non-zero advantage.
    """
    return -(advantages * log_probs).sum() / prompts


def batches(samples: Sequence[Sample], rows: int) -> Iterator[Batch]:
    """``samples`` in batches of at most ``rows``, alike in length; those without advantage are left out."""
    useful = sorted((s for s in samples if s.advantage != 0.0), key=lambda s: len(s.response_ids))
    for begin in range(0, len(useful), rows):
        yield collate(useful[begin : begin + rows])
