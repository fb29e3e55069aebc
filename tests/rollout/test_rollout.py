"""Group sampling: exactly the policy's distribution, ended by the routing decoder, the same from the same seed."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from letters import CLOSE, MARKER, A, B, letters_policy

from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import Policy
from edgekit.rollout.sampler import sample_groups
from edgekit.routing.decoder import RoutingDecoder
from edgekit.train.batches import Sample, collate
from edgekit.train.loss import response_log_probs

PROMPTS = [(A, B, A, A), (B,), (A, A)]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return letters_policy(tmp_path_factory.mktemp("letters"))


def ends(policy: Policy, tokens: tuple[int, ...], limit: int) -> bool:
    decoder = RoutingDecoder(policy.routing.model_copy(update={"max_new_tokens": limit}), policy.vocabulary)
    done = [decoder.push(token) is not None and decoder.done for token in tokens]
    return not any(done[:-1]) and (done[-1] or len(tokens) == limit)


def outcome_probabilities(policy: Policy, prompt: tuple[int, ...], limit: int, temperature: float) -> dict:
    """Every response of at most ``limit`` tokens with its probability, from the model without a cache."""
    outcomes = {}
    for length in range(1, limit + 1):
        for tokens in itertools.product(range(7), repeat=length):
            if ends(policy, tokens, limit):
                with torch.no_grad():
                    log_probs = (policy.model(torch.tensor([prompt + tokens])) / temperature).log_softmax(-1)[0]
                positions = torch.arange(len(prompt) - 1, len(prompt) - 1 + length)
                outcomes[tokens] = log_probs[positions, torch.tensor(tokens)].sum().exp().item()
    return outcomes


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_samples_follow_the_policys_own_distribution_in_a_padded_batch(policy: Policy, temperature: float) -> None:
    n, limit = 6000, 3
    short = replace(policy, routing=policy.routing.model_copy(update={"max_new_tokens": limit}))
    groups = sample_groups(short, PROMPTS, n, temperature=temperature, seed=3)
    for group, prompt in zip(groups, PROMPTS, strict=True):
        assert group.prompt_ids == prompt
        exact = outcome_probabilities(policy, prompt, limit, temperature)
        assert sum(exact.values()) == pytest.approx(1.0, abs=1e-4)
        counts = Counter(response.token_ids for response in group.responses)
        assert set(counts) <= set(exact)
        common = {tokens: p for tokens, p in exact.items() if n * p >= 5}
        rest = 1 - sum(common.values())
        cells = [(counts[tokens], n * p) for tokens, p in common.items()]
        cells.append((n - sum(count for count, _ in cells), n * max(rest, 1e-4)))
        chi_square = sum((seen - expected) ** 2 / expected for seen, expected in cells)
        assert chi_square < len(cells) + 5 * (2 * len(cells)) ** 0.5


def test_the_same_seed_gives_the_same_groups_and_another_seed_others(policy: Policy) -> None:
    def sample(seed: int) -> list:
        return sample_groups(policy, PROMPTS, 5, temperature=1.0, seed=seed)

    torch.manual_seed(1)
    first = sample(7)
    torch.manual_seed(2)
    assert sample(7) == first
    assert sample(8) != first


def test_a_share_of_the_prompts_gets_what_the_whole_batch_would_give_it(policy: Policy) -> None:
    whole = sample_groups(policy, PROMPTS, 5, temperature=1.0, seed=7)
    parts = [sample_groups(policy, PROMPTS[i : i + 1], 5, temperature=1.0, seed=7, first=i) for i in range(3)]
    assert [group for part in parts for group in part] == whole
    assert sample_groups(policy, PROMPTS, 5, temperature=1.0, seed=7, rows_per_batch=5) == whole
    twice = sample_groups(policy, [PROMPTS[0]] * 2, 5, temperature=1.0, seed=7)
    assert twice[0].responses != twice[1].responses


def test_every_decision_is_what_the_phones_decoder_says_of_the_same_tokens(policy: Policy) -> None:
    groups = sample_groups(policy, PROMPTS, 200, temperature=1.0, seed=0, rows_per_batch=64)
    reasons = Counter()
    for response in (response for group in groups for response in group.responses):
        decoder = RoutingDecoder(policy.routing, policy.vocabulary)
        for token in response.token_ids[:-1]:
            decoder.push(token)
            assert not decoder.done
        decoder.push(response.token_ids[-1])  # the deciding token belongs to the response
        assert decoder.finish() == response
        assert decoder.done or len(response.token_ids) == policy.routing.max_new_tokens
        reasons[response.reason] += 1
    assert set(reasons) == {"marker", "answer", "no_answer"}


def test_a_call_ends_with_the_marker_token_and_an_answer_with_its_close(policy: Policy) -> None:
    groups = sample_groups(policy, PROMPTS, 100, temperature=1.0, seed=5)
    lasts = {(r.reason, r.token_ids[-1]) for group in groups for r in group.responses if r.reason != "no_answer"}
    assert lasts == {("marker", MARKER), ("answer", CLOSE)}


def test_a_prompt_that_fills_the_context_is_refused_and_a_long_one_is_cut_to_it(policy: Policy) -> None:
    with pytest.raises(EdgekitError, match="prompt too long: 32 tokens"):
        sample_groups(policy, [(A,) * 32], 2, temperature=1.0, seed=0)
    (group,) = sample_groups(policy, [(A,) * 30], 50, temperature=1.0, seed=0)
    assert max(len(response.token_ids) for response in group.responses) == 2


def test_rows_without_a_token_are_never_sampled_and_take_no_part_in_log_probabilities(tmp_path: Path) -> None:
    policy = letters_policy(tmp_path, rows=40)
    assert policy.model.without_token.tolist() == list(range(7, 40))
    groups = sample_groups(policy, PROMPTS, 200, temperature=1.0, seed=3)
    assert {token for group in groups for response in group.responses for token in response.token_ids} <= set(range(7))
    samples = [Sample(i, g.prompt_ids, r.token_ids, 1.0) for i, g in enumerate(groups) for r in g.responses[:20]]
    expected = []
    for sample in samples:
        ids = torch.tensor([[*sample.prompt_ids, *sample.response_ids]])
        with torch.no_grad():
            log_probs = policy.model(ids)[0, len(sample.prompt_ids) - 1 : -1, :7].log_softmax(-1)
        expected.append(log_probs.gather(1, torch.tensor(sample.response_ids)[:, None]).sum())
    found = response_log_probs(policy.model, collate(samples), 1.0)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)
