"""The PyTorch truth: a policy (or its quantized twin) behind the StepModel interface, and in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import KVCache, PolicyModel, step
from edgekit.policy.padding import pad_left
from edgekit.routing.decode_loop import DecodeSession
from edgekit.routing.decoder import Decision
from edgekit.routing.step_model import Logits

FIRST_SLOTS = 64


class ReferenceModel:
    """A :class:`StepModel` over the torch model; its cache grows with what it is given."""

    def __init__(self, model: PolicyModel) -> None:
        self.model = model
        self.context_length = model.config.context_length
        self.reset()

    def reset(self) -> None:
        self._cache = KVCache(self.model.config, 1, min(FIRST_SLOTS, self.context_length), self.model.cos.device)

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        self._cache.reserve(self._cache.end + len(token_ids))
        ids = torch.tensor([list(token_ids)], device=self.model.cos.device)
        return step(self.model, ids, self._cache)[0].cpu().numpy()

    def decode(self, token_id: int) -> Logits:
        return self.prefill([token_id])


def decode_batch(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    *,
    marker_bias: float | None = None,
    batch_size: int = 64,
    context_length: int | None = None,
) -> list[Decision]:
    """Greedy decisions for many prompts (token ids), stepped together; the same sessions as ``decode``."""
    limit = context_length or policy.model.config.context_length
    decisions: dict[int, Decision] = {}
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for begin in range(0, len(order), batch_size):
        rows = order[begin : begin + batch_size]
        sessions = [
            DecodeSession(policy.routing, policy.vocabulary, len(prompts[row]), limit, marker_bias) for row in rows
        ]
        for row, decision in zip(rows, _step_together(policy, [prompts[row] for row in rows], sessions), strict=True):
            decisions[row] = decision
    return [decisions[index] for index in range(len(prompts))]


def _step_together(
    policy: Policy, prompts: Sequence[Sequence[int]], sessions: Sequence[DecodeSession]
) -> list[Decision]:
    width = max(len(prompt) for prompt in prompts)
    length = min(width + policy.routing.max_new_tokens, policy.model.config.context_length + width)
    device = policy.model.cos.device
    cache = KVCache(policy.model.config, len(prompts), length, device)
    tokens, cache.padding = pad_left(prompts, device)
    alive = list(sessions)
    while True:
        logits = step(policy.model, tokens, cache).cpu().numpy()
        following = [session.advance(row) for session, row in zip(alive, logits, strict=True)]
        keep = [index for index, token in enumerate(following) if token is not None]
        if not keep:
            return [session.decision() for session in sessions]
        if len(keep) < len(alive):
            cache.select(torch.tensor(keep, device=device))
            alive = [alive[index] for index in keep]
        tokens = torch.tensor(np.array([[following[index]] for index in keep], np.int64), device=device)
