"""The policy's own greedy responses as tensors: what GPTQ, the sensitivities and the fine-tuning look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.policy.checkpoint import Policy
from edgekit.policy.reference import decode_batch
from edgekit.routing.decoder import Decision
from edgekit.routing.replay import before_each

ROWS = 32
"""Sequences in a batch: enough to keep two cores busy, few enough for a vocabulary of 50,000."""


@dataclass(frozen=True)
class RolloutBatch:
    """Prompts and responses, right-padded, alike in length; every array is (n, T), on the policy's device.

    tokens int64: prompt, then all of the response but its last token, which nothing reads.
    real bool: not padding. chosen int64: the token the policy chose after this one, -1 where it chose none
    (inside the prompt, in padding). decides bool: of those places, where it decided whether to call. markers: for each
    of these, row by row, the ids that a marker could go on with.
    """

    tokens: Tensor
    real: Tensor
    chosen: Tensor
    decides: Tensor
    markers: tuple[tuple[int, ...], ...]

    @property
    def responds(self) -> Tensor:
        """(n, T) bool: the places whose logits chose a token."""
        return self.chosen >= 0


def record_rollouts(policy: Policy, prompts: Sequence[str], rows: int = ROWS) -> list[RolloutBatch]:
    """``policy``'s greedy responses to ``prompts`` at its own marker bias, in batches of ``rows``, shortest first."""
    ids = [policy.encode(prompt) for prompt in prompts]
    decisions = decode_batch(policy, ids)
    order = sorted(range(len(ids)), key=lambda i: (len(ids[i]) + len(decisions[i].token_ids), i))
    parts = (order[begin : begin + rows] for begin in range(0, len(order), rows))
    return [_collate(policy, [(ids[i], decisions[i]) for i in part]) for part in parts]


def _collate(policy: Policy, pairs: Sequence[tuple[list[int], Decision]]) -> RolloutBatch:
    width = max(len(prompt) + len(decision.token_ids) - 1 for prompt, decision in pairs)
    tokens = torch.zeros(len(pairs), width, dtype=torch.int64)
    real, decides = (torch.zeros(len(pairs), width, dtype=torch.bool) for _ in range(2))
    chosen = torch.full((len(pairs), width), -1)
    markers: list[tuple[int, ...]] = []
    for row, (prompt, decision) in enumerate(pairs):
        response, first = decision.token_ids, len(prompt) - 1
        read = [*prompt, *response[:-1]]
        tokens[row, : len(read)] = torch.tensor(read)
        real[row, : len(read)] = True
        chosen[row, first : len(read)] = torch.tensor(response)
        positions = [position for position, _ in decision.margins]
        decides[row, [first + position for position in positions]] = True
        markers += _markers_at(policy, response, positions)
    device = policy.model.cos.device
    return RolloutBatch(tokens.to(device), real.to(device), chosen.to(device), decides.to(device), tuple(markers))


def _markers_at(policy: Policy, response: Sequence[int], positions: Sequence[int]) -> list[tuple[int, ...]]:
    """The ids that a marker could go on with at each of ``positions``."""
    room, wanted = policy.routing.max_new_tokens, set(positions)
    decoders = enumerate(before_each(policy.routing, policy.vocabulary, response))
    return [tuple(decoder.open_markers(room - at)) for at, decoder in decoders if at in wanted]
