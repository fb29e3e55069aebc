"""Sampled responses as the tensors that an update reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from edgekit.policy.padding import pad_left, pad_right, real_places
from edgekit.rollout.response import Group


@dataclass(frozen=True)
class Sample:
    """One sampled response with its prompt's token ids and its advantage; samples of one ``group`` have one prompt.

    ``log_probs``: of each of its tokens when it was sampled, None where that is not known.
    """

    group: int
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    advantage: float
    log_probs: tuple[float, ...] | None = None


def samples_of(number: int, group: Group, advantages: Sequence[float]) -> list[Sample]:
    """The responses of ``group``, called ``number`` in its batch, with their ``advantages``."""
    log_probs = group.log_probs or [None] * len(group.responses)
    return [
        Sample(number, group.prompt_ids, response.token_ids, advantage, sampled)
        for response, advantage, sampled in zip(group.responses, advantages, log_probs, strict=True)
    ]


@dataclass(frozen=True)
class Batch:
    """Samples as tensors. Each group's prompt stands there once, however many responses it has.

    prompts (p, S) int64, left-padded by padding (p,); responses (n, R) int64, right-padded, with their prompt's
    row owner (n,); mask (n, R) float32, 1 for every token of the response, the deciding one included;
    advantages (n,) float32; sampled (n, R) float32, the tokens' log-probabilities when they were sampled, if known.
    """

    prompts: Tensor
    padding: Tensor
    responses: Tensor
    owner: Tensor
    mask: Tensor
    advantages: Tensor
    sampled: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        sampled = None if self.sampled is None else self.sampled.to(device)
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self) if field.name != "sampled"}
        return Batch(**moved, sampled=sampled)


def collate(samples: Sequence[Sample]) -> Batch:
    """Pad ``samples`` (at least one) into a :class:`Batch`."""
    by_group = {sample.group: sample.prompt_ids for sample in samples}
    rows = {group: row for row, group in enumerate(by_group)}
    prompts, padding = pad_left(list(by_group.values()))
    responses = [sample.response_ids for sample in samples]
    owner = torch.tensor([rows[sample.group] for sample in samples])
    advantages = torch.tensor([sample.advantage for sample in samples])
    known = [sample.log_probs for sample in samples if sample.log_probs is not None]
    sampled = pad_right(known, 0.0) if len(known) == len(samples) else None
    mask = real_places(responses).float()
    return Batch(prompts, padding, pad_right(responses), owner, mask, advantages, sampled)


def batches(samples: Sequence[Sample], rows: int) -> Iterator[Batch]:
    """``samples`` in batches of at most ``rows``; those without advantage are left out.

    Ordered by length, which pads little, or prompt by prompt, which reads each prompt once: whichever makes
    fewer tokens.
    """
    for batch in _batched(samples, rows):
        yield collate(batch)


def most_tokens(samples: Sequence[Sample], rows: int) -> int:
    """How many tokens the model reads for the largest of :func:`batches`, padding included; 0 if there is none."""
    return max(map(_tokens, _batched(samples, rows)), default=0)


def _batched(samples: Sequence[Sample], rows: int) -> list[Sequence[Sample]]:
    useful = [sample for sample in samples if sample.advantage != 0.0]
    longest: dict[int, int] = {}
    for sample in useful:
        longest[sample.group] = max(longest.get(sample.group, 0), len(sample.response_ids))
    by_length = sorted(useful, key=lambda s: len(s.response_ids))
    by_prompt = sorted(useful, key=lambda s: (longest[s.group], s.prompt_ids, s.group))
    return min(_cut(by_length, rows), _cut(by_prompt, rows), key=lambda cut: sum(map(_tokens, cut)))


def _cut(samples: Sequence[Sample], rows: int) -> list[Sequence[Sample]]:
    return [samples[begin : begin + rows] for begin in range(0, len(samples), rows)]


def _tokens(samples: Sequence[Sample]) -> int:
    """How many tokens the model reads for a batch, padding included."""
    prompts = {sample.group: len(sample.prompt_ids) for sample in samples}
    return len(prompts) * max(prompts.values()) + len(samples) * max(len(sample.response_ids) for sample in samples)
