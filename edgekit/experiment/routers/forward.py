"""The policy's hidden states over what it wrote, in batches of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekit.experiment.attempts import Attempts
from edgekit.policy.attention import causal
from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel
from edgekit.policy.padding import pad_left

TOKENS_AT_ONCE = 4096
"""Padding included; one sequence may be longer than that."""


@dataclass(frozen=True)
class Sequences:
    """Token ids of prompts, each with its response; ``prompt_lengths`` says where the response begins."""

    ids: list[list[int]]
    prompt_lengths: list[int]


def prompts(policy: Policy, attempts: Attempts) -> list[list[int]]:
    """Each prompt's token ids as the policy reads it."""
    return [policy.encode(problem.prompt) for problem in attempts.problems]


def sequences(policy: Policy, attempts: Attempts) -> Sequences:
    """The same, and after each what the policy wrote."""
    read = prompts(policy, attempts)
    ids = [prompt + list(made.token_ids) for prompt, made in zip(read, attempts.decisions, strict=True)]
    return Sequences(ids, [len(prompt) for prompt in read])


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


@torch.inference_mode()
def final_states(model: PolicyModel, ids: Sequence[Sequence[int]]) -> Iterator[tuple[int, Tensor]]:
    """(row, normed last-layer states (length, hidden)) of every sequence, short ones first."""
    device = model.lm_head.weight.device
    for rows in batches([len(row) for row in ids]):
        tokens, padding = pad_left([ids[row] for row in rows], device)
        states = model.hidden(tokens, *causal(tokens, padding))
        for row, missing, own in zip(rows, padding.tolist(), states, strict=True):
            yield row, own[missing:]


@torch.inference_mode()
def last_token_states(model: PolicyModel, ids: Sequence[Sequence[int]], depths: Sequence[int]) -> dict[int, Tensor]:
    """Per depth, the states (n, hidden) float32 on the CPU after each sequence's last token.

    Depth k is what the first k blocks leave; the full depth is taken after the final norm.
    """
    config, device = model.config, model.lm_head.weight.device
    found = {depth: torch.empty(len(ids), config.hidden_size) for depth in depths}
    for rows in batches([len(row) for row in ids]):
        tokens, padding = pad_left([ids[row] for row in rows], device)
        seen: dict[int, Tensor] = {}
        hooks = [model.model.layers[depth - 1].register_forward_hook(_keep_last(seen, depth)) for depth in depths]
        try:
            final = model.hidden(tokens, *causal(tokens, padding))
        finally:
            for hook in hooks:
                hook.remove()
        seen[config.num_hidden_layers] = final[:, -1]
        for depth in depths:
            found[depth][rows] = seen[depth].float().cpu()
    return found


def _keep_last(seen: dict[int, Tensor], depth: int) -> Callable[[nn.Module, object, Tensor], None]:
    def hook(_module: nn.Module, _inputs: object, states: Tensor) -> None:
        seen[depth] = states[:, -1]

    return hook
