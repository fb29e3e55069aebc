"""Searching recipes: sizes counted as artifacts have them, sensitivities that mean something, a sound frontier."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekit.errors import CheckFailed
from edgekit.export.frontier import Point, choose, draw_frontier, mark_frontier
from edgekit.export.search import artifact_mb, candidates, compare_recipes
from edgekit.export.targets import get_lowering
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.quantize.quantized import quantize_model, weight_shapes
from edgekit.quantize.rollouts import record_rollouts
from edgekit.quantize.sensitivity import Sensitivity, WeightGroup, measure_sensitivity, spend, weight_groups
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.fit import recipe_problems
from edgekit.recipes.lookup import find_recipe
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.recipes.targets import get_target
from edgekit.recipes.weights import storage_of

STORAGE = storage_of(find_recipe("coreml_int4", "coreml"))


@pytest.fixture(scope="module")
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder)


def point(name: str, mb: float, agreement: float, speed: float | None = None) -> Point:
    recipe = find_recipe("onnx_fp32", "onnx").model_copy(update={"name": name})
    return Point(recipe, mb, 100, agreement, agreement, 0.3, "", "", "", speed)


def test_the_frontier_holds_what_nothing_beats_and_the_choice_keeps_the_budget() -> None:
    tried = [point("d", 4, 0.99, 50), point("a", 1, 0.9, 90), point("b", 2, 0.89), point("c", 3, 0.95, 70)]
    points = mark_frontier(tried)
    assert [(p.recipe.name, p.on_frontier) for p in points] == [("a", True), ("b", False), ("c", True), ("d", True)]
    assert choose(points, None, None).recipe.name == "d"
    assert choose(points, 3.5, None).recipe.name == "c"
    assert choose(points, None, 80).recipe.name == "a"
    with pytest.raises(CheckFailed, match=r"budget: at most 0\.5 MB\. The smallest has 1\.0 MB"):
        choose(points, 0.5, None)
    assert draw_frontier(points, "onnx").startswith(b"\x89PNG")


@pytest.mark.parametrize("rules", [
    [{"match": "*", "bits": 4, "group_size": 32}],
    [{"match": "model.layers.*", "bits": 4, "group_size": 32}, {"match": "lm_head", "bits": 8, "group_size": 32}],
])  # fmt: skip
def test_the_counted_size_is_the_onnx_file_s(rules: list[dict[str, object]], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PolicyModel(ModelConfig(4096, 256, 512, 2, 4, 2, 64, 64)).eval()
    plain = find_recipe("onnx_int4", "onnx")
    quantize = plain.quantize.model_validate(plain.quantize.model_dump() | {"rules": rules})
    recipe = plain.model_copy(update={"quantize": quantize, "context_length": 64})
    path = get_lowering("onnx").lower(quantize_model(model, recipe.quantize), recipe, tmp_path)
    assert artifact_mb(model, recipe) == pytest.approx(path.stat().st_size / 1e6, rel=0.03)


@pytest.mark.slow
def test_the_counted_size_is_the_executorch_file_s_which_holds_a_tied_table_twice(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PolicyModel(ModelConfig(4096, 256, 512, 2, 4, 2, 64, 64)).eval()
    recipe = find_recipe("executorch_int8", "executorch").model_copy(update={"context_length": 64})
    path = get_lowering("executorch").lower(quantize_model(model, recipe.quantize), recipe, tmp_path)
    assert artifact_mb(model, recipe) == pytest.approx(path.stat().st_size / 1e6, rel=0.05)


def test_rounding_more_coarsely_is_felt_more_and_a_second_float_costs_nothing(
    policy: Policy, tiny_prompts: list[str]
) -> None:
    fine, four = QuantRule(match="*", bits=8), QuantRule(match="*", bits=4, group_size=32)
    groups = weight_groups(policy.model, QuantRecipe(rules=(four,)), fine)
    smooth = [WeightGroup(group.name, group.finer, group.finer) for group in groups]
    coarse = measure_sensitivity(policy, groups, tiny_prompts[:16], STORAGE)
    finer = measure_sensitivity(policy, smooth, tiny_prompts[:16], STORAGE)
    for rough, same in zip(coarse, finer, strict=True):
        assert rough.divergence > 4 * same.divergence > 0
        assert same.extra_mb == 0.0
        assert rough.extra_mb > 0.0
    assert sum(item.margin_shift for item in coarse) > 4 * sum(item.margin_shift for item in finer)


@torch.no_grad()
def test_a_group_measured_from_its_own_layer_on_is_as_if_the_whole_model_had_run(
    policy: Policy, tiny_prompts: list[str]
) -> None:
    rules = (QuantRule(match="*", bits=4, group_size=32),)
    groups = weight_groups(policy.model, QuantRecipe(rules=rules), QuantRule(match="*", bits=8))
    assert [group.name for group in groups][-2:] == ["layer 1 down", "head and embedding"]
    (batch,) = record_rollouts(policy, tiny_prompts[:8])
    before = policy.model(batch.tokens)[batch.responds].log_softmax(-1)
    for group, found in zip(groups, measure_sensitivity(policy, groups, tiny_prompts[:8], STORAGE), strict=True):
        twin = quantize_model(policy.model, QuantRecipe(rules=group.rules))
        after = twin(batch.tokens)[batch.responds].log_softmax(-1)
        divergence = float((before.exp() * (before - after)).sum(-1).mean())
        assert found.divergence == pytest.approx(divergence, rel=1e-3), group.name


def test_groups_follow_the_recipe_s_tables_and_bits(policy: Policy) -> None:
    for target, tables in (
        ("onnx", ["head and embedding"]),
        ("executorch", ["head"]),
        ("coreml", ["head and embedding"]),
    ):
        plain = find_recipe(f"{target}_int4", target)
        groups = weight_groups(policy.model, plain.quantize, get_target(target).fine_rule)
        assert [group.name for group in groups if not group.name.startswith("layer ")] == tables
        assert len(groups) == 3 * policy.model.config.num_hidden_layers + 1
        assert all(rule.bits == 8 for group in groups for rule in group.finer)


def test_spending_takes_the_most_saved_per_megabyte_first() -> None:
    def item(name: str, divergence: float, mb: float) -> Sensitivity:
        rule = QuantRule(match=name, bits=8)
        return Sensitivity(WeightGroup(name, (rule,), (rule,)), 0.0, 0.0, divergence, mb)

    found = [item("dear", 3.0, 3.0), item("cheap", 2.0, 1.0), item("idle", 0.1, 1.0)]
    assert [r.match for r in spend(found, 2.0)] == ["cheap", "idle"]
    assert [r.match for r in spend(found, 4.0)] == ["cheap", "dear"]
    assert spend(found, 0.5) == []


@pytest.mark.parametrize("target", ["onnx", "executorch", "coreml"])
def test_every_candidate_fits_its_target_and_the_smallest_come_first(
    target: str, policy: Policy, tiny_prompts: list[str], tmp_path: Path
) -> None:
    plain = fitted(find_recipe(f"{target}_int4", target))
    groups = weight_groups(policy.model, plain.quantize, get_target(target).fine_rule)
    recipes = candidates(policy.model, plain, measure_sensitivity(policy, groups, tiny_prompts[:8], storage_of(plain)))
    assert {f"{target}_{name}" for name in ("int4", "int4_gptq", "int4_head8_gptq", "int8", "int8_gptq")} <= {
        recipe.name for recipe in recipes
    }
    sizes = [artifact_mb(policy.model, recipe) for recipe in recipes]
    assert sizes == sorted(sizes)
    assert any("mixed" in recipe.name for recipe in recipes)
    for recipe in recipes:
        assert not recipe_problems(recipe, weight_shapes(policy.model))
        if recipe.quantize.rounding == "nearest":
            (tmp_path / recipe.name).mkdir()
            get_lowering(target).lower(quantize_model(policy.model, recipe.quantize), recipe, tmp_path / recipe.name)


def fitted(plain: ExportRecipe) -> ExportRecipe:
    """``plain`` with groups and a context that fit the tiny policy."""
    rules = tuple(r.model_copy(update={"group_size": min(r.group_size, 32)}) for r in plain.quantize.rules)
    quantize = plain.quantize.model_copy(update={"rules": rules})
    return plain.model_copy(update={"quantize": quantize, "context_length": 64})


def test_what_nothing_smaller_beats_is_kept_and_every_recipe_is_compared(
    policy: Policy, tiny_prompts: list[str]
) -> None:
    plain = fitted(find_recipe("onnx_int4", "onnx"))
    recipes = candidates(policy.model, plain, [])
    said: list[str] = []
    kept: list[str] = []
    train, held_out = tiny_prompts[:16], tiny_prompts[16:]
    points = compare_recipes(policy, recipes, train, held_out, said.append, lambda recipe, _: kept.append(recipe.name))
    assert [point.recipe.name for point in points] == [point.recipe.name for point in mark_frontier(points)]
    assert len(points) == len(recipes) == len({recipe.name for recipe in recipes})
    assert {point.recipe.name for point in points if point.on_frontier} <= set(kept)
    assert points[0].to_json()["recipe"]["target"] == "onnx"
    assert any("layer 2 of 2" in line for line in said)
