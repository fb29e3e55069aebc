"""The PyTorch truth: a policy (or its quantized twin) behind the StepModel interface, and in batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgekit.policy.batch_decode import BatchDecoder, Pace
from edgekit.policy.checkpoint import Policy
from edgekit.policy.greedy import GreedyChoice, write_together
from edgekit.policy.kv_cache import KVCache, step
from edgekit.policy.model import PolicyModel
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
    pace: Pace | None = None,
) -> list[Decision]:
    """Greedy decisions for many prompts (token ids), stepped together; the same sessions as ``decode``.

    ``pace``: the device's own, if None.
    """
    if not prompts:
        return []
    model = policy.model
    context = context_length or model.config.context_length
    most = min(policy.routing.max_new_tokens, context)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    sessions = [
        DecodeSession(policy.routing, policy.vocabulary, len(prompt), context, marker_bias) for prompt in prompts
    ]
    bias = policy.routing.marker_bias if marker_bias is None else marker_bias
    rows, longest = min(batch_size, len(prompts)), len(prompts[order[-1]])
    choice = GreedyChoice(policy.routing, model.without_token, model.config.vocab_size, bias, rows, most)
    decoder = BatchDecoder(model, choice, rows, longest + most, pace)
    for begin in range(0, len(order), batch_size):
        batch = order[begin : begin + batch_size]
        room = min(most, max(context - len(prompts[row]) for row in batch))
        decoder.begin([prompts[row] for row in batch], 1, room)
        _step_together(decoder, choice, [sessions[row] for row in batch])
    return [session.decision() for session in sessions]


def _step_together(decoder: BatchDecoder, choice: GreedyChoice, sessions: Sequence[DecodeSession]) -> None:
    rows = list(range(len(sessions)))
    while rows:
        before = decoder.read
        chunk = decoder.write()
        rows, taken, instead = write_together(choice, [sessions[row] for row in rows], rows, chunk)
        if instead:
            decoder.go_back(before + taken, instead)
        if rows:
            left = decoder.keep(rows, 1.0)
            sessions = [sessions[row] for row in left]
            place = {row: index for index, row in enumerate(left)}
            rows = [place[row] for row in rows]
