"""The policy-gradient loss: minus the advantage-weighted log-probability of whole responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from edgekit.policy.model import Attend, PolicyModel, attention, causal
from edgekit.train.head import chosen_log_probs


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

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


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


def response_log_probs(model: PolicyModel, batch: Batch, temperature: float, *, checkpointing: bool = False) -> Tensor:
    """log pi(y | x) (n,) of each response: the sum over its tokens, at the sampling temperature.

    A prompt goes through the model once; its responses attend to its keys and values. ``checkpointing`` keeps
    only the blocks' inputs for the gradient and computes the rest again: less memory, a third more work, the
    same gradient to the last bit.
    """
    past: dict[int, tuple[Tensor, Tensor]] = {}
    positions, attend = causal(batch.prompts, batch.padding if bool(batch.padding.any()) else None)

    def attend_and_keep(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        past.setdefault(layer, (k, v))  # a block that is computed again must not replace them
        return attend(layer, q, k, v)

    ends = model.hidden(batch.prompts, positions, attend_and_keep, checkpointing=checkpointing)[:, -1:]
    hidden = ends.index_select(0, batch.owner)  # (n, 1, hidden): where each response's first token is chosen
    inputs = batch.responses[:, :-1]
    if inputs.shape[1]:
        after = model.hidden(inputs, *_after(batch, past), checkpointing=checkpointing)
        hidden = torch.cat([hidden, after], dim=1)
    learned = batch.mask.flatten().nonzero()[:, 0]
    ids = batch.responses.flatten().index_select(0, learned)
    log_probs = chosen_log_probs(hidden.flatten(0, 1).index_select(0, learned), model.lm_head.weight, ids, temperature)
    rows = learned.div(batch.responses.shape[1], rounding_mode="floor")
    return log_probs.new_zeros(len(batch.responses)).index_add(0, rows, log_probs)


def _after(batch: Batch, past: dict[int, tuple[Tensor, Tensor]]) -> tuple[Tensor, Attend]:
    """Positions (n, R - 1) and the attention of responses to their prompts and themselves."""
    width, length = batch.prompts.shape[1], batch.responses.shape[1] - 1
    device = batch.prompts.device
    index = torch.arange(length, device=device)
    padding = batch.padding[batch.owner]  # (n,)
    seen = torch.arange(width, device=device)[None, :] >= padding[:, None]
    real = seen[:, None, None, :].expand(-1, 1, length, width)
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
    """``samples`` in batches of at most ``rows``; those without advantage are left out.

    Ordered by length, which pads little, or prompt by prompt, which reads each prompt once: whichever makes
    fewer tokens.
    """
    useful = [sample for sample in samples if sample.advantage != 0.0]
    longest: dict[tuple[int, ...], int] = {}
    for sample in useful:
        longest[sample.prompt_ids] = max(longest.get(sample.prompt_ids, 0), len(sample.response_ids))
    by_length = sorted(useful, key=lambda s: len(s.response_ids))
    by_prompt = sorted(useful, key=lambda s: (longest[s.prompt_ids], s.prompt_ids))
    for batch in min(_cut(by_length, rows), _cut(by_prompt, rows), key=lambda cut: sum(map(_tokens, cut))):
        yield collate(batch)


def _cut(samples: Sequence[Sample], rows: int) -> list[Sequence[Sample]]:
    return [samples[begin : begin + rows] for begin in range(0, len(samples), rows)]


def _tokens(samples: Sequence[Sample]) -> int:
    """How many tokens the model reads for a batch, padding included."""
    prompts = {sample.prompt_ids for sample in samples}
    width = max(map(len, prompts))
    return len(prompts) * width + len(samples) * max(len(sample.response_ids) for sample in samples)
