"""One loop on every device: a chunk at a time with few sizes, as on a GPU, it writes what it writes token by token."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from letters import LINE, MARKER, letters_policy
from torch.overrides import TorchFunctionMode

from edgekit.errors import NotFinite
from edgekit.policy.attention import attention, shared_keys_attention, visible
from edgekit.policy.batch_decode import IN_CHUNKS, TOKEN_BY_TOKEN, Pace
from edgekit.policy.checkpoint import Policy
from edgekit.policy.kv_cache import KVCache, decode, step
from edgekit.policy.model import PolicyModel
from edgekit.policy.reference import ReferenceModel, decode_batch
from edgekit.policy.traits import LayerTraits, ModelConfig
from edgekit.rollout.draw import uniforms
from edgekit.rollout.sampler import Sampler
from edgekit.routing.decode_loop import DecodeSession
from edgekit.routing.decode_loop import decode as decode_one
from edgekit.routing.decoder import RoutingDecoder

CHUNKS = Pace(tokens=5, positions=4, halves=True)
PACES = {"token by token": TOKEN_BY_TOKEN, "in chunks": CHUNKS, "as a GPU": IN_CHUNKS}
LIMIT = 16


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    policy = letters_policy(tmp_path_factory.mktemp("letters"), rows=12, context=64)
    policy.routing = policy.routing.model_copy(update={"max_new_tokens": LIMIT})
    return policy


def prompts(count: int, lengths: Sequence[int] = range(1, 9)) -> list[tuple[int, ...]]:
    source = random.Random(count)
    return [tuple(source.choices((0, 1, LINE), k=source.choice(list(lengths)))) for _ in range(count)]


def sampled_one_by_one(policy: Policy, prompt: tuple[int, ...], stream: int, size: int, temperature: float) -> list:
    """What a response is: the model over the whole text, float64 sums on the host, the decoder after each token."""
    found = []
    for noise in uniforms(5, stream, size, LIMIT):
        decoder = RoutingDecoder(policy.routing, policy.vocabulary)
        for uniform in noise:
            if decoder.done:
                break
            with torch.no_grad():
                logits = policy.model(torch.tensor([[*prompt, *decoder.token_ids]]))[0, -1]
            logits[policy.model.without_token] = -torch.inf
            sums = (logits / temperature).softmax(-1).cumsum(-1, dtype=torch.float64)
            decoder.push(int(torch.searchsorted(sums, uniform.double() * sums[-1], right=True)))
        found.append(decoder.finish())
    return found


@pytest.mark.parametrize("temperature", [1.0, pytest.param(0.7, marks=pytest.mark.slow)])
def test_every_pace_samples_what_a_response_alone_would_be(policy: Policy, temperature: float) -> None:
    asked, size = prompts(4), 2
    alone = [
        [sampled_one_by_one(policy, prompt, first + i, size, temperature) for i, prompt in enumerate(asked)]
        for first in (0, 4)
    ]
    for pace in PACES.values():
        sampler = Sampler(policy, temperature, rows_per_batch=3 * size, pace=pace)
        for first, expected in zip((0, 4), alone, strict=True):  # the second time in the memory of the first
            groups = sampler.sample(asked, size, seed=5, first=first)
            assert [list(group.responses) for group in groups] == expected
            for group in groups:
                assert group.log_probs is not None
                assert [len(row) for row in group.log_probs] == [len(row.token_ids) for row in group.responses]


@pytest.mark.parametrize("pace", PACES.values(), ids=PACES)
def test_a_long_prompt_beside_it_takes_no_room_from_a_short_one(policy: Policy, pace: Pace) -> None:
    source = random.Random(4)
    long, short = (tuple(source.choices((0, 1), k=length)) for length in (62, 3))
    size, sampler = 8, Sampler(policy, 1.0, pace=pace)
    beside, (alone,) = sampler.sample([long, short], size, seed=5)[1], sampler.sample([short], size, seed=5, first=1)
    assert list(beside.responses) == list(alone.responses)
    assert max(len(response.token_ids) for response in beside.responses) > 2
    (cut, _) = sampler.sample([long, short], size, seed=5)
    assert {len(response.token_ids) for response in cut.responses} <= {1, 2}


@pytest.mark.parametrize("bias", [None, *(pytest.param(bias, marks=pytest.mark.slow) for bias in (-0.4, 3.0, -inf))])
def test_every_pace_decides_as_the_reference_alone(policy: Policy, bias: float | None) -> None:
    asked = prompts(10)

    def alone(prompt: tuple[int, ...]) -> Any:
        session = DecodeSession(policy.routing, policy.vocabulary, len(prompt), 64, bias)
        return decode_one(ReferenceModel(policy.model), prompt, session)

    expected = [alone(prompt) for prompt in asked]
    for pace in PACES.values():
        found = decode_batch(policy, asked, marker_bias=bias, batch_size=6, pace=pace)
        assert [replace(one, margins=(), marker_margin=0.0) for one in found] == [
            replace(one, margins=(), marker_margin=0.0) for one in expected
        ]
        for one, other in zip(found, expected, strict=True):
            assert [place for place, _ in one.margins] == [place for place, _ in other.margins]
            assert [m for _, m in one.margins] == pytest.approx([m for _, m in other.margins], abs=1e-4)


def test_a_marker_of_several_tokens_is_written_and_forbidden_in_chunks_too(policy: Policy) -> None:
    several = policy.routing.marker.model_copy(update={"token_ids": ((0, 1), (MARKER,))})
    longer = replace(policy, routing=policy.routing.model_copy(update={"marker": several}))
    asked = prompts(8)
    for bias in (None, 1.0, float("-inf")):
        expected = decode_batch(longer, asked, marker_bias=bias, pace=TOKEN_BY_TOKEN)
        found = decode_batch(longer, asked, marker_bias=bias, pace=CHUNKS)
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]
        assert [one.route for one in found] == [one.route for one in expected]


class Looks(TorchFunctionMode):
    """Counts what a host reads of a device's tensors."""

    READS = frozenset({"item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "nonzero"})

    def __init__(self) -> None:
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        to_host = getattr(func, "__name__", "") == "to" and "cpu" in args[1:]
        self.count += to_host or getattr(func, "__name__", "") in self.READS
        return func(*args, **kwargs)


def test_the_host_looks_once_a_chunk_whatever_the_chunk_holds(policy: Policy) -> None:
    def looks(tokens: int) -> int:
        with Looks() as seen:
            Sampler(policy, 1.0, pace=Pace(tokens, 64, halves=True)).sample([(0, 1), (1,)], 8, seed=1)
        return seen.count

    start, a_chunk = looks(LIMIT), looks(LIMIT // 2) - looks(LIMIT)
    assert looks(LIMIT // 4) == start + 3 * a_chunk
    assert a_chunk <= 7  # three kinds of notes copied, the check of one, three lists


def test_logits_that_are_no_numbers_stop_the_sampling_in_any_pace(tmp_path: Path) -> None:
    for pace in PACES.values():
        broken = letters_policy(tmp_path, rows=12, context=64)
        broken.model.model.norm.weight.data.fill_(float("nan"))
        with pytest.raises(NotFinite):
            Sampler(broken, 1.0, pace=pace).sample([(0, 1)], 3, seed=0)


def test_a_kept_sampler_samples_from_the_new_weights(tmp_path: Path) -> None:
    moving = letters_policy(tmp_path, context=64)
    for bfloat16 in (False, True):
        sampler = Sampler(moving, 1.0, bfloat16=bfloat16, pace=CHUNKS)
        sampler.sample(prompts(3), 4, seed=0)
        with torch.no_grad():
            for parameter in moving.model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        fresh = Sampler(moving, 1.0, bfloat16=bfloat16, pace=CHUNKS)
        assert sampler.sample(prompts(3), 4, seed=1) == fresh.sample(prompts(3), 4, seed=1)
        moving.model.model.norm.weight = torch.nn.Parameter(moving.model.model.norm.weight.detach() * 2)
        fresh = Sampler(moving, 1.0, bfloat16=bfloat16, pace=CHUNKS)
        assert sampler.sample(prompts(3), 4, seed=2) == fresh.sample(prompts(3), 4, seed=2)


@pytest.mark.parametrize("window", [None, 3, 6])
def test_a_step_at_a_place_only_the_device_knows_gives_the_logits_of_any_other(window: int | None) -> None:
    torch.manual_seed(1)
    traits = (LayerTraits(window=window), LayerTraits())
    model = PolicyModel(ModelConfig(20, 16, 16, 2, 4, 2, 8, 32, layers=traits)).eval()
    ids = torch.randint(0, 20, (3, 11))
    for padding in (torch.zeros(3, dtype=torch.int64), torch.tensor([0, 4, 2])):
        whole, parts = KVCache(model.config, 3, 16), KVCache(model.config, 4, 16)
        whole.padding = padding
        parts.padding[:3] = padding
        step(model, ids[:, :6], whole)
        parts.take(whole, torch.arange(3), 6)
        for place in range(6, 11):
            expected = step(model, ids[:, place : place + 1], whole)
            for span in (range(4 * (place // 4), 4 * (place // 4) + 4), range(16), range(place, place + 1)):
                at = torch.tensor([place])
                found = decode(model, ids[:, place : place + 1], parts, at, span, padded=bool(padding.any()))
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
                if len(span) == 1:
                    assert torch.equal(found, expected)


@pytest.mark.parametrize("mask", ["none", "one for all", "each row's"])
def test_heads_that_share_keys_need_no_copies_of_them(mask: str) -> None:
    torch.manual_seed(0)
    shapes = [(2, 6, 5, 8), (2, 2, 9, 8), (2, 2, 9, 8)]
    q, k, v = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    seen = visible(torch.arange(4, 9)[:, None], torch.arange(9), None)
    chosen = {"none": None, "one for all": seen, "each row's": seen & (torch.rand(2, 1, 5, 9) > 0.3)}[mask]
    if chosen is not None:
        chosen[..., 0] = True
    outputs = [each(q, k, v, chosen) for each in (attention, shared_keys_attention)]
    torch.testing.assert_close(*outputs)
    weights = torch.randn_like(outputs[0])
    for expected, found in zip(*(torch.autograd.grad((o * weights).sum(), (q, k, v)) for o in outputs), strict=True):
        torch.testing.assert_close(found, expected)
