"""The policy's hidden states over what it wrote, in batches of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.experiment.attempts import Attempts
from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel, causal

TOKENS_AT_ONCE = 4096
"""Padding included; one sequence may be longer than that."""


@dataclass(frozen=True)
class Sequences:
    """Token ids of prompts, each with its response; ``prompt_lengths`` says where the response begins."""

    ids: list[list[int]]
    prompt_lengths: list[int]


def sequences(policy: Policy, attempts: Attempts) -> Sequences:
    """Each prompt as the policy read it, then what it wrote."""
    prompts = [policy.encode(problem.prompt) for problem in attempts.problems]
    ids = [prompt + list(made.token_ids) for prompt, made in zip(prompts, attempts.decisions, strict=True)]
    return Sequences(ids, [len(prompt) for prompt in prompts])


def batches(lengths: Sequence[int], tokens: int = TOKENS_AT_ONCE) -> Iterator[list[int]]:
    """Row numbers in groups of like length whose padded size is at most ``tokens``, or of one row."""
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if rows and lengths[row] * (len(rows) + 1) > tokens:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def pad_left(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) int64 padded with 0 on the left, and how many of each row are padding (B,) int64."""
    width = max(len(row) for row in rows)
    padding = [width - len(row) for row in rows]
    ids = [[0] * missing + list(row) for missing, row in zip(padding, rows, strict=True)]
    return torch.tensor(ids, device=device), torch.tensor(padding, device=device)


@torch.inference_mode()
def final_states(model: PolicyModel, ids: Sequence[Sequence[int]]) -> Iterator[tuple[int, Tensor]]:
    """(row, normed last-layer states (length, hidden)) of every sequence, short ones first."""
    device = model.lm_head.weight.device
    for rows in batches([len(row) for row in ids]):
        tokens, padding = pad_left([ids[row] for row in rows], device)
        states = model.hidden(tokens, *causal(tokens, padding))
        for row, missing, own in zip(rows, padding.tolist(), states, strict=True):
            yield row, own[missing:]
