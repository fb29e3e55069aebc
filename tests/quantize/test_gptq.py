"""GPTQ: never worse than nearest where it counts, the same numbers twice, one table for a tied pair."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import edgekit
from edgekit.errors import EdgekitError
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.quantize.gptq import Moments, round_for_inputs, round_gptq, weighted_error
from edgekit.quantize.integers import QuantizedEmbedding, QuantizedLinear, quantize_weight
from edgekit.quantize.quantized import quantize_policy
from edgekit.quantize.rollouts import RolloutBatch, record_rollouts
from edgekit.recipes.quant_recipe import QuantRecipe
from edgekit.tasks import get_task

INT4 = {"match": "*", "bits": 4, "group_size": 16}
GPTQ = QuantRecipe.model_validate({"rounding": "gptq", "rules": [INT4]})


@pytest.fixture(scope="module")
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder)


def random_case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(24, 32, generator=generator)
    mix = torch.randn(32, 32, generator=generator)
    inputs = (torch.randn(200, 32, generator=generator) @ mix).double()  # a nearly singular mix needs the digits
    return weight, inputs.t() @ inputs


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([(4, 16), (4, 32), (8, 0)]))
def test_no_row_is_worse_than_nearest_and_all_together_are_better(seed: int, grid: tuple[int, int]) -> None:
    weight, hessian = random_case(seed)
    rounded, nearest = round_gptq(weight, hessian, *grid), quantize_weight(weight, *grid)
    ours, theirs = weighted_error(weight, rounded, hessian), weighted_error(weight, nearest, hessian)
    assert (ours <= theirs * (1 + 1e-9)).all()
    assert ours.sum() < theirs.sum()
    assert torch.equal(rounded.scales, nearest.scales)
    assert int(rounded.values.abs().max()) < 2 ** (grid[0] - 1)


@pytest.mark.parametrize("grid", [(4, 16), (8, 0)])
def test_with_its_ends_kept_nearest_rounding_finds_the_same_integers(grid: tuple[int, int]) -> None:
    rounded = round_gptq(*random_case(5), *grid, keep_ends=True)
    again = quantize_weight(rounded.dequantize(), *grid)
    assert torch.equal(again.scales, rounded.scales)
    assert torch.equal(again.values, rounded.values)


def test_with_a_diagonal_hessian_it_is_nearest() -> None:
    weight, _ = random_case(0)
    diagonal = torch.diag(torch.rand(32, generator=torch.Generator().manual_seed(1)).double() + 0.1)
    assert torch.equal(round_gptq(weight, diagonal, 4, 16).values, quantize_weight(weight, 4, 16).values)


def test_the_target_undoes_a_drift_of_the_inputs() -> None:
    weight, _ = random_case(3)
    x = torch.randn(500, 32, generator=torch.Generator().manual_seed(4)).double()
    seen = 0.5 * x  # the layers before it halved everything
    rounded = round_for_inputs(weight, Moments(seen.t() @ seen, x.t() @ seen), 8, 0)
    answers, wanted = seen.float() @ rounded.dequantize().t(), x.float() @ weight.t()
    assert (answers - wanted).norm() / wanted.norm() < 0.03


def divergence(policy: Policy, twin: Policy, batches: list[RolloutBatch]) -> float:
    """Mean KL divergence of ``twin`` from ``policy`` where a token is chosen."""
    total = []
    for batch in batches:
        before, after = (p.model(batch.tokens)[batch.responds].log_softmax(-1) for p in (policy, twin))
        total.append((before.exp() * (before - after)).sum(-1))
    return float(torch.cat(total).mean())


@torch.no_grad()
@pytest.mark.parametrize("activations", ["float", "int8", "int8_block"])
def test_the_calibrated_policy_is_nearer_on_prompts_it_was_not_calibrated_on(activations: str) -> None:
    base = load_policy(Path(edgekit.__file__).parent / "policy" / "base")
    task = get_task("countdown")
    train, held_out = ([p.prompt for p in task.problems(split, 64, 0)] for split in ("train", "validation"))
    recipe = QuantRecipe.model_validate(
        {"rounding": "gptq", "activations": activations, "rules": [INT4 | {"group_size": 32}]}
    )
    nearest = quantize_policy(base, recipe.model_copy(update={"rounding": "nearest"}))
    calibrated = quantize_policy(base, recipe, train)
    batches = record_rollouts(base, held_out)
    assert divergence(base, calibrated, batches) < 0.5 * divergence(base, nearest, batches)


def test_a_tied_pair_keeps_one_table_and_the_same_prompts_give_the_same_integers(
    policy: Policy, tiny_prompts: list[str]
) -> None:
    first, second = (quantize_policy(policy, GPTQ, tiny_prompts[:20]) for _ in range(2))
    embedding, head = first.model.model.embed_tokens, first.model.lm_head
    assert isinstance(embedding, QuantizedEmbedding)
    assert isinstance(head, QuantizedLinear)
    assert embedding.values is head.values
    assert embedding.scales is head.scales
    nearest = quantize_policy(policy, GPTQ.model_copy(update={"rounding": "nearest"}))
    assert not torch.equal(head.values, nearest.model.lm_head.values)
    for (name, ours), (_, again) in zip(first.model.named_buffers(), second.model.named_buffers(), strict=True):
        assert torch.equal(ours, again), name


def test_rounding_leaves_no_float_copy_of_a_layer_and_no_view_of_the_reference(
    policy: Policy, tiny_prompts: list[str]
) -> None:
    twin = quantize_policy(policy, GPTQ, tiny_prompts[:20]).model
    linears = [module for module in twin.model.layers.modules() if isinstance(module, QuantizedLinear)]
    assert len(linears) == 14
    assert not any("dequantized" in linear.__dict__ for linear in linears)
    # A view of one vector would keep the whole weights file in memory.
    files = {parameter.untyped_storage().data_ptr() for parameter in policy.model.parameters()}
    assert files.isdisjoint(parameter.untyped_storage().data_ptr() for parameter in twin.parameters())


def test_rollouts_say_which_token_was_chosen_and_where_a_marker_counted(
    policy: Policy, tiny_prompts: list[str]
) -> None:
    for batch in record_rollouts(policy, tiny_prompts[:8], rows=3):
        logits = policy.model(batch.tokens).index_fill(-1, policy.model.without_token, -torch.inf)
        greedy = logits.argmax(-1)
        unbiased = batch.responds & ~batch.decides
        assert torch.equal(greedy[unbiased], batch.chosen[unbiased])
        assert (batch.decides & ~batch.responds).sum() == 0
        assert batch.decides.any(1).all()  # the first place of a response begins a line
        assert (batch.responds & ~batch.real).sum() == 0


def test_gptq_without_prompts_is_refused(policy: Policy) -> None:
    with pytest.raises(EdgekitError, match="calibration prompts"):
        quantize_policy(policy, GPTQ)
