"""Group sampling: G responses to each prompt, with a KV cache, from the policy's own distribution.

Each response's end and its decision come from the same :class:`RoutingDecoder` the phone runs, so what
training rewards is what the phone sees. The token that decides (the marker, the stop token, the end of
the answer) is part of the response and is trained like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edgekit.errors import EdgekitError, NotFinite
from edgekit.policy.checkpoint import Policy
from edgekit.policy.model import KVCache, bfloat16_copy, step
from edgekit.policy.padding import pad_left
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
    if bfloat16:
        policy = replace(policy, model=bfloat16_copy(policy.model))
    prompts_per_batch = max(1, rows_per_batch // group_size)
    limit = policy.routing.max_new_tokens
    groups: list[Group] = []
    for begin in range(0, len(prompts), prompts_per_batch):
        batch = prompts[begin : begin + prompts_per_batch]
        noise = [uniforms(seed, first + begin + index, group_size, limit) for index in range(len(batch))]
        with torch.autocast(policy.model.cos.device.type, torch.bfloat16, enabled=bfloat16):
            rows = _sample_batch(policy, batch, group_size, temperature, torch.cat(noise))
        for index, prompt in enumerate(batch):
            groups.append(group_of(prompt, rows[index * group_size : (index + 1) * group_size]))
    return groups


def uniforms(seed: int, stream: int, group_size: int, length: int) -> Tensor:
    """Numbers in [0, 1), (group_size, length) float32, of the random stream (``seed``, ``stream``)."""
    state = int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0])
    return torch.rand(group_size, length, generator=torch.Generator().manual_seed(state))


def draw(logits: Tensor, temperature: float, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """One token id per row (n,) int64, sampled from softmax(logits (n, vocab) / temperature) by ``uniform`` (n,).

    The token is where the cumulated probabilities pass the uniform number's share of their sum. Its log-probability
    (n,) float32 comes with it. Raises :class:`NotFinite` for logits that are no numbers.
    """
    # In float64 a number below 1 times the sum stays below the sum, so the token is always one of the vocabulary.
    probabilities = (logits.float() / temperature).softmax(-1)
    cumulated = probabilities.cumsum(-1, dtype=torch.float64)
    if not bool(cumulated[:, -1].isfinite().all()):
        raise NotFinite("the policy's logits are not finite")
    tokens = torch.searchsorted(cumulated, uniform[:, None].double() * cumulated[:, -1:], right=True)
    return tokens[:, 0], probabilities.gather(-1, tokens)[:, 0].log()


@torch.inference_mode()
def _sample_batch(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    temperature: float,
    noise: Tensor,  # (rows, max_new_tokens)
) -> list[Response]:
    width = max(len(prompt) for prompt in prompts)
    context = policy.model.config.context_length
    if width >= context:
        raise EdgekitError(f"prompt too long: {width} tokens. The context holds {context}. Use shorter problems.")
    limit = min(policy.routing.max_new_tokens, context - width)
    spec = policy.routing.model_copy(update={"max_new_tokens": limit})
    device = policy.model.cos.device
    cache = KVCache(policy.model.config, len(prompts), width + limit, device)
    tokens, cache.padding = pad_left(prompts, device)
    logits = step(policy.model, tokens, cache)
    repeat = torch.arange(len(prompts), device=device).repeat_interleave(group_size)
    cache.select(repeat)
    logits = logits[repeat]
    responses = [Response(RoutingDecoder(spec, policy.vocabulary)) for _ in range(len(repeat))]
    rows = list(responses)  # what each cache row writes
    for position in range(limit):
        logits[:, policy.model.without_token] = -torch.inf
        tokens, log_probs = draw(logits.cpu(), temperature, noise[:, position])
        for row, token, log_prob in zip(rows, tokens.tolist(), log_probs.tolist(), strict=True):
            row.push(token, log_prob)
        alive = [index for index, row in enumerate(rows) if not row.decoder.done]
        if not alive or position == limit - 1:
            break
        if len(alive) < COMPACT_BELOW * len(rows):
            cache.select(torch.tensor(alive, device=device))
            tokens, noise = tokens[alive], noise[alive]
            rows = [rows[index] for index in alive]
        logits = step(policy.model, tokens[:, None].to(device), cache)
    return responses
