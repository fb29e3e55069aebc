"""Group sampling: G responses to each prompt, with a KV cache, from the policy's own distribution.

Each response's end and its decision come from the same :class:`RoutingDecoder` the phone runs, so what
training rewards is what the phone sees. The token that decides (the marker, the stop token, the end of
the answer) is part of the response and is trained like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgekit.errors import EdgekitError, NotFinite
from edgekit.policy.batch_decode import BatchDecoder, Pace, pace_of
from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import PolicyModel, bfloat16_copy, refresh_copy
from edgekit.rollout.draw import DrawnChoice, uniforms
from edgekit.rollout.response import Group, Response, group_of
from edgekit.routing.decoder import RoutingDecoder

COMPACT_BELOW = 0.75  # dropping finished rows copies the cache, so do it only when it pays


def sample_groups(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    *,
    temperature: float,
    seed: int,
    first: int = 0,
    rows_per_batch: int = 512,
    bfloat16: bool = False,
) -> list[Group]:
    """Sample ``group_size`` responses to each prompt (token ids), exactly from softmax(logits / temperature).

    Prompt i draws from the random stream of (``seed``, ``first`` + i), so a share of a batch gets what the whole
    batch would give it. The routing spec's marker bias is not applied: training sees the policy as it is.
    ``bfloat16``: the model's products are taken in it. The same arguments give the same groups. Raises
    :class:`EdgekitError` for a prompt that leaves no room in the context, :class:`NotFinite` for logits that are no
    numbers.
    """
    sampler = Sampler(policy, temperature, rows_per_batch=rows_per_batch, bfloat16=bfloat16)
    return sampler.sample(prompts, group_size, seed=seed, first=first)


class Sampler:
    """Samples groups from ``policy`` as it is at each call; arguments as :func:`sample_groups`'s.

    On a GPU it keeps cache and captured steps for the next call, which may be another training step's. ``pace``: the
    device's own, if None.
    """

    def __init__(
        self,
        policy: Policy,
        temperature: float,
        *,
        rows_per_batch: int = 512,
        bfloat16: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self.policy, self.temperature = policy, temperature
        self.rows_per_batch, self.bfloat16 = rows_per_batch, bfloat16
        self.pace = pace or pace_of(policy.model.cos.device)
        self._model: PolicyModel | None = None
        self._kept: tuple[BatchDecoder, DrawnChoice] | None = None
        self._addresses: list[int] = []

    def sample(self, prompts: Sequence[Sequence[int]], group_size: int, *, seed: int, first: int = 0) -> list[Group]:
        """A group for each of ``prompts``; see :func:`sample_groups`."""
        self._take_weights()
        prompts_per_batch = max(1, self.rows_per_batch // group_size)
        limit = self.policy.routing.max_new_tokens
        kind = self.policy.model.cos.device.type
        groups: list[Group] = []
        for begin in range(0, len(prompts), prompts_per_batch):
            batch = prompts[begin : begin + prompts_per_batch]
            noise = [uniforms(seed, first + begin + index, group_size, limit) for index in range(len(batch))]
            with torch.autocast(kind, torch.bfloat16, enabled=self.bfloat16, cache_enabled=False):
                rows = self._write(batch, group_size, noise)
            for index, prompt in enumerate(batch):
                groups.append(group_of(prompt, rows[index * group_size : (index + 1) * group_size]))
        if not self.pace.halves:
            self._model = self._kept = None  # nothing is captured: the update may have the memory
        return groups

    def _take_weights(self) -> None:
        """Bring the model that samples up to date; what was captured of weights that lay elsewhere is dropped."""
        model = self.policy.model
        addresses = [parameter.data_ptr() for parameter in model.parameters()]
        if self._model is None or addresses != self._addresses:
            self._addresses, self._kept = addresses, None
            self._model = bfloat16_copy(model) if self.bfloat16 else model
        elif self.bfloat16:
            refresh_copy(self._model, model)

    def _write(self, prompts: Sequence[Sequence[int]], group_size: int, noise: Sequence[Tensor]) -> list[Response]:
        policy, context = self.policy, self.policy.model.config.context_length
        width = max(len(prompt) for prompt in prompts)
        if width >= context:
            raise EdgekitError(f"prompt too long: {width} tokens. The context holds {context}. Use shorter problems.")
        rooms = [min(policy.routing.max_new_tokens, context - len(prompt)) for prompt in prompts]
        responses = [
            Response(RoutingDecoder(policy.routing, policy.vocabulary), room)
            for room in rooms
            for _ in range(group_size)
        ]
        limit = max(rooms)
        decoder, choice = self._room(len(responses), width + limit)
        choice.begin(noise)
        decoder.begin(prompts, group_size, limit)
        rows = list(responses)  # what each cache row writes
        while True:
            tokens, log_probs, finite = decoder.write()
            if not bool(finite.all()):
                raise NotFinite("the policy's logits are not finite")
            for row, *written in zip(rows, tokens.tolist(), log_probs.tolist(), strict=True):
                row.extend(*written)
            alive = [index for index, row in enumerate(rows) if not row.done]
            if not alive or decoder.full:
                return responses
            rows = [rows[index] for index in decoder.keep(alive, COMPACT_BELOW)]

    def _room(self, rows: int, length: int) -> tuple[BatchDecoder, DrawnChoice]:
        if self._kept is None or not self._kept[0].has_room(rows, length):
            assert self._model is not None
            self._kept = None  # its memory first
            limit = self.policy.routing.max_new_tokens
            choice = DrawnChoice(self.temperature, self.policy.model.without_token, rows, limit)
            self._kept = BatchDecoder(self._model, choice, rows, length, self.pace), choice
        return self._kept
