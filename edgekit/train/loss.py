"""The policy-gradient loss: minus the advantage-weighted log-probability of whole responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.policy.model import PolicyModel, causal


@dataclass(frozen=True)
class Sample:
    """One sampled response with its prompt's token ids and its advantage."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    advantage: float


@dataclass(frozen=True)
class Batch:
    """Samples as tensors: left padding, prompt, response (from column ``start`` on), right padding.

    tokens (n, T) int64; padding (n,) int64, the left padding; mask (n, T - start) float32, 1 for every
    token of the response, the deciding one included; advantages (n,) float32.
    """

    tokens: Tensor
    padding: Tensor
    mask: Tensor
    advantages: Tensor
    start: int


def collate(samples: Sequence[Sample]) -> Batch:
    """Pad ``samples`` (at least one) into a :class:`Batch`."""
    start = max(len(sample.prompt_ids) for sample in samples)
    longest = max(len(sample.response_ids) for sample in samples)
    tokens = torch.zeros(len(samples), start + longest, dtype=torch.int64)
    mask = torch.zeros(len(samples), longest)
    for row, sample in enumerate(samples):
        tokens[row, start - len(sample.prompt_ids) : start] = torch.tensor(sample.prompt_ids)
        tokens[row, start : start + len(sample.response_ids)] = torch.tensor(sample.response_ids)
        mask[row, : len(sample.response_ids)] = 1
    padding = torch.tensor([start - len(sample.prompt_ids) for sample in samples])
    return Batch(tokens, padding, mask, torch.tensor([sample.advantage for sample in samples]), start)


def response_log_probs(model: PolicyModel, batch: Batch, temperature: float) -> Tensor:
    """log pi(y | x) (n,) of each response: the sum over its tokens, at the sampling temperature."""
    # Right padding needs no mask: attention is causal and nothing after a response is read.
    tokens = batch.tokens[:, :-1]
    hidden = model.hidden(tokens, *causal(tokens, batch.padding if bool(batch.padding.any()) else None))
    log_probs = (model.lm_head(hidden[:, batch.start - 1 :]) / temperature).log_softmax(-1)
    chosen = log_probs.gather(-1, batch.tokens[:, batch.start :, None])[..., 0]
    return (chosen * batch.mask).sum(-1)


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
