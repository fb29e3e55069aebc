"""The mathematics of GAPG: reward, advantages, filter, and an estimator whose expectation is the gradient."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
import torch

from edgekit.errors import ConfigError
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.routing.decoder import Decision, RoutingDecoder
from edgekit.routing.spec import Marker, RoutingSpec
from edgekit.routing.vocabulary import Vocabulary
from edgekit.train.advantage import group_advantages
from edgekit.train.batches import Sample, batches, collate
from edgekit.train.gap import importance_weights
from edgekit.train.loss import policy_gradient_loss, response_log_probs
from edgekit.train.prompt_filter import call_ratio, filter_prompts
from edgekit.train.reward import Outcome, RewardScale, emitted_call, well_formed

MARKER = "<call>"
SPEC = RoutingSpec(marker=Marker(text=MARKER, token_ids=((3,),)), stop_token_ids=(0,), max_new_tokens=8)
FIRST = 10
"""Tokens from here on are characters."""
FIRST_VERSION = RewardScale(2.0, 0.5, 0.2)


# --- reward -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("called", "correct", "well_formed", "cloud_correct", "expected"),
    [
        (False, True, True, False, 2.2),  # answered locally, correct, well-formed: alpha_a + alpha_f
        (False, True, False, True, 2.0),  # answered locally, correct, format broken: alpha_a
        (True, False, False, True, 0.5),  # called, and the cloud is correct: alpha_c
        (False, False, True, True, 0.2),  # answered locally, wrong, well-formed: alpha_f
        (False, False, False, True, 0.0),  # anything else: 0
        (True, False, False, False, 0.0),
    ],
)
def test_the_reward_is_the_papers_table(
    called: bool, correct: bool, well_formed: bool, cloud_correct: bool, expected: float
) -> None:
    outcome = Outcome(called, correct, well_formed, tokens=3)
    assert FIRST_VERSION.reward(outcome, cloud_correct, 8) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [(1.0, 1.0, 0.0), (0.2, 0.25, 0.0), (1.0, 0.2, 0.2), (1.0, 0.25, -0.1)])
def test_a_flat_or_negative_hierarchy_is_refused(scale: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="alpha_a > alpha_c > alpha_f >= 0"):
        RewardScale(*scale)


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("3 + 4 = 7\n<answer>3 + 4</answer>", "3 + 4", True),
        ("so it is <answer>3 + 4</answer>", "3 + 4", False),
        ("<answer>x <answer>3</answer>", "x <answer>3", False),
        ("<answer>x\n<answer>3</answer>", "x\n<answer>3", False),
        ("<answer></answer>", "", False),
        ("3 + 4 = 7", None, False),
        ("<think>in <answer> and </answer></think>\n<answer>3 + 4</answer>", "3 + 4", True),
        ("<think>so: <answer>5</answer>", None, False),
        ("<think>\n<answer></think> <answer>3</answer>", "3", False),
    ],
)
def test_form_means_one_answer_alone_on_its_line(text: str, answer: str | None, expected: bool) -> None:
    decoder = RoutingDecoder(SPEC, Vocabulary({FIRST + ord(each): each.encode() for each in text}))
    for each in text:
        decoder.push(FIRST + ord(each))
    decision = decoder.finish()
    assert (decision.text, decision.answer) == (text, answer)
    assert well_formed(decision, SPEC) is expected


def test_a_response_cut_off_is_handed_off_but_is_no_call_of_the_policys() -> None:
    assert emitted_call(Decision("cloud", "marker", "", None, (3,)))
    assert not emitted_call(Decision("cloud", "no_answer", "", None, (1, 1)))


# --- advantages -------------------------------------------------------------------------------------


def test_advantages_are_the_hand_worked_ones() -> None:
    rewards = torch.tensor([[1.0, 0.25, 0.0, 0.75], [0.25, 0.25, 0.25, 0.25]])
    expected = torch.tensor([[0.5 / 3, -0.25 / 3, -0.5 / 3, 0.25 / 3], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(group_advantages(rewards), expected)


def test_advantages_keep_the_hierarchy_between_groups() -> None:
    """Dividing by the standard deviation would make these two groups' advantages equal."""
    solving, asking = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.0, 0.0, 0.0]]))
    torch.testing.assert_close(solving, 4 * asking)


# --- filter -----------------------------------------------------------------------------------------


def test_the_filter_keeps_solved_prompts_and_a_bounded_share_of_the_clouds() -> None:
    solved = [True] * 7 + [False] * 8
    cloud = [False] * 7 + [True] * 6 + [False] * 2
    kept = filter_prompts(solved, cloud, 0.30, seed=1)
    assert kept.d1 == tuple(range(7))
    assert kept.d2_candidates == tuple(range(7, 13))
    assert len(kept.d2) == 3
    assert set(kept.d2) <= set(kept.d2_candidates)
    assert kept == filter_prompts(solved, cloud, 0.30, seed=1)
    choices = {filter_prompts(solved, cloud, 0.30, seed=seed).d2 for seed in range(50)}
    assert {index for choice in choices for index in choice} == set(kept.d2_candidates)


def test_the_bound_is_the_exact_floor_for_every_budget() -> None:
    for percent, solved in itertools.product(range(100), range(0, 65, 3)):
        exact = Fraction(percent, 100 - percent) * solved
        flags = [True] * solved + [False] * 200
        kept = filter_prompts(flags, [True] * len(flags), percent / 100, seed=0)
        assert len(kept.d2) == min(200, int(exact)), (percent, solved)
    assert call_ratio(0.30) == pytest.approx(3 / 7)


def test_without_solved_prompts_nothing_updates_the_policy() -> None:
    assert filter_prompts([False] * 4, [True] * 4, 0.30, seed=0).indices == ()


# --- the estimator ----------------------------------------------------------------------------------

PROMPTS = {(1, 2): 0.0, (2,): 0.3}  # prompt: what it adds to every reward
OUTCOMES = [(0,), (3,), *((first, second) for first in (1, 2) for second in range(4))]


def toy_model(seed: int = 0) -> PolicyModel:
    """A float64 policy over four tokens; token 0 ends a response, token 3 is the marker, two tokens at most."""
    torch.manual_seed(seed)
    model = PolicyModel(ModelConfig(4, 8, 8, 1, 2, 1, 4, 16)).double()
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model


def log_probs_of(model: PolicyModel, prompt: tuple[int, ...], temperature: float) -> torch.Tensor:
    return response_log_probs(model, collate([Sample(0, prompt, y, 0.0) for y in OUTCOMES]), temperature)


def flat_gradient(model: PolicyModel, loss: torch.Tensor) -> torch.Tensor:
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat([g.reshape(-1) for g in gradients if g is not None])


def expected_estimate(
    model: PolicyModel,
    prompt: tuple[int, ...],
    rewards: torch.Tensor,
    size: int,
    advantages: object,
    temperature: float,
) -> torch.Tensor:
    """Exact expectation, over every tuple of ``size`` responses, of the gradient the real loss gives."""
    log_probs = log_probs_of(model, prompt, temperature)
    probabilities = log_probs.detach().exp()
    total = torch.zeros(())
    for drawn in itertools.product(range(len(OUTCOMES)), repeat=size):
        rows = list(drawn)
        given = advantages(rewards[rows][None])[0]  # type: ignore[operator]
        total = total + probabilities[rows].prod() * policy_gradient_loss(log_probs[rows], given, 1)
    return -flat_gradient(model, total)


def over_g(rewards: torch.Tensor) -> torch.Tensor:
    return (rewards - rewards.mean(-1, keepdim=True)) / rewards.shape[-1]


def over_std(rewards: torch.Tensor) -> torch.Tensor:
    return group_advantages(rewards) / (rewards.std(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize("size", [2, 3])
def test_the_estimators_expectation_is_the_exact_gradient_and_the_biased_ones_is_not(size: int) -> None:
    model, temperature = toy_model(), 0.8
    rewards = torch.tensor([0.0, 0.25, 1.0, 0.0, 0.2, 0.25, 0.7, 1.0, 0.0, 0.5], dtype=torch.float64)
    for prompt, shift in PROMPTS.items():
        probabilities = log_probs_of(model, prompt, temperature).exp()
        assert probabilities.sum().item() == pytest.approx(1.0)
        exact = flat_gradient(model, (probabilities * (rewards + shift)).sum())
        unbiased = expected_estimate(model, prompt, rewards + shift, size, group_advantages, temperature)
        torch.testing.assert_close(unbiased, exact, rtol=1e-9, atol=1e-12)
        shrunk = expected_estimate(model, prompt, rewards + shift, size, over_g, temperature)
        torch.testing.assert_close(shrunk, exact * (size - 1) / size, rtol=1e-9, atol=1e-12)
        normalized = expected_estimate(model, prompt, rewards + shift, size, over_std, temperature)
        # Not even another learning rate makes it the gradient.
        scaled = normalized * (normalized @ exact) / (normalized @ normalized)
        assert (scaled - exact).norm() > 0.03 * exact.norm()
        assert (normalized - exact).norm() > 0.2 * exact.norm()


def test_importance_weights_make_it_unbiased_for_the_policy_that_is_updated_and_a_cap_bounds_them() -> None:
    acting, updated, temperature, prompt = toy_model(1), toy_model(0), 0.8, (1, 2)
    rewards = torch.tensor([0.0, 0.25, 1.0, 0.0, 0.2, 0.25, 0.7, 1.0, 0.0, 0.5], dtype=torch.float64)
    exact = flat_gradient(updated, (log_probs_of(updated, prompt, temperature).exp() * rewards).sum())
    sampled = log_probs_of(acting, prompt, temperature).detach()
    for cap, unbiased in ((1e9, True), (1.1, False)):
        log_probs = log_probs_of(updated, prompt, temperature)
        weights = importance_weights(log_probs.detach() - sampled, cap)
        assert float(weights.max()) <= cap
        total = torch.zeros(())
        for first, second in itertools.product(range(len(OUTCOMES)), repeat=2):
            rows = [first, second]
            given = group_advantages(rewards[rows][None])[0] * weights[rows]
            total = total + sampled[rows].exp().prod() * policy_gradient_loss(log_probs[rows], given, 1)
        close = torch.allclose(-flat_gradient(updated, total), exact, rtol=1e-9, atol=1e-12)
        assert close == unbiased


def test_the_padded_batch_gives_each_responses_own_log_probability() -> None:
    model = toy_model()
    samples = [Sample(row, prompt, y, 1.0) for row, prompt in enumerate(PROMPTS) for y in OUTCOMES]
    together = response_log_probs(model, collate(samples), 0.7)
    for sample, batched in zip(samples, together.tolist(), strict=True):
        tokens = torch.tensor([sample.prompt_ids + sample.response_ids])
        log_probs = (model(tokens)[0] / 0.7).log_softmax(-1)
        start = len(sample.prompt_ids)
        alone = sum(log_probs[start + i - 1, token].item() for i, token in enumerate(sample.response_ids))
        assert batched == pytest.approx(alone, abs=1e-12)


def test_the_same_batch_gives_the_same_gradient_to_the_last_bit() -> None:
    # Large enough that two threads add to one prompt's keys and values at a time.
    torch.manual_seed(0)
    model = PolicyModel(ModelConfig(16, 64, 64, 1, 2, 2, 32, 64))
    samples = [Sample(row % 3, (1, *[row % 3] * 24), (4, 5, 6, 7, 0), 1.0 - 1.5 * (row % 2)) for row in range(384)]
    gradients = set()
    for _ in range(6):
        model.zero_grad()
        (batch,) = batches(samples, rows=512)
        policy_gradient_loss(response_log_probs(model, batch, 1.0), batch.advantages, 3).backward()
        gradients.add(b"".join(p.grad.numpy().tobytes() for p in model.parameters() if p.grad is not None))
    assert len(gradients) == 1


def test_long_responses_are_not_scaled_down() -> None:
    samples = [Sample(0, (1,), (0,), 1.0), Sample(0, (1,), (1, 2), 1.0)]
    assert collate(samples).mask.sum(-1).tolist() == [1.0, 2.0]
    log_probs = torch.tensor([-1.0, -5.0])
    assert policy_gradient_loss(log_probs, torch.tensor([0.5, 0.5]), 1).item() == pytest.approx(3.0)


def test_the_marker_token_itself_is_trained() -> None:
    model = toy_model()
    (batch,) = batches([Sample(0, (1, 2), (3,), 0.25), Sample(0, (1, 2), (1, 0), 0.0)], rows=8)
    assert batch.mask.tolist() == [[1.0]]
    loss = policy_gradient_loss(response_log_probs(model, batch, 1.0), batch.advantages, 1)
    before = log_probs_of(model, (1, 2), 1.0)[1].item()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter -= 0.05 * gradient
    assert sum(gradient.abs().sum().item() for gradient in gradients) > 0.01
    assert log_probs_of(model, (1, 2), 1.0)[1].item() > before + 1e-3


def test_a_hopeless_group_in_which_nobody_called_has_no_gradient() -> None:
    wrong = Outcome(called=False, correct=False, well_formed=True, tokens=2)
    for scale in (RewardScale(), FIRST_VERSION):
        rewards = torch.tensor([[scale.reward(wrong, True, 4) for _ in range(4)]])
        advantages = group_advantages(rewards)[0].tolist()
        assert list(batches([Sample(0, (1,), (2, 0), advantage) for advantage in advantages], rows=8)) == []
