"""Searching recipes: sizes counted as artifacts have them, sensitivities that mean something, a sound frontier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgekit.errors import CheckFailed
from edgekit.export.lookup import find_recipe
from edgekit.export.search import Point, artifact_mb, candidates, choose, draw_frontier, evaluate, mark_frontier
from edgekit.export.targets import get_target
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.quantize.quantized import quantize_model, recipe_problems
from edgekit.quantize.recipe import QuantRule
from edgekit.quantize.sensitivity import Sensitivity, measure_sensitivity, spend, weight_mb


@pytest.fixture(scope="module")
def policy(tiny_policy_folder: Path) -> Policy:
    return load_policy(tiny_policy_folder)


def point(name: str, mb: float, agreement: float, speed: float | None = None) -> Point:
    recipe = find_recipe("onnx_fp32", "onnx").model_copy(update={"name": name})
    return Point(recipe, mb, 100, agreement, agreement, 0.3, speed)


def test_the_frontier_holds_what_nothing_beats_and_the_choice_keeps_the_budget() -> None:
    tried = [point("d", 4, 0.99, 50), point("a", 1, 0.9, 90), point("b", 2, 0.89), point("c", 3, 0.95, 70)]
    points = mark_frontier(tried)
    assert [(p.recipe.name, p.on_frontier) for p in points] == [("a", True), ("b", False), ("c", True), ("d", True)]
    assert choose(points, None, None).recipe.name == "d"
    assert choose(points, 3.5, None).recipe.name == "c"
    assert choose(points, None, 80).recipe.name == "a"
    with pytest.raises(CheckFailed, match=r"smallest has 1\.0 MB"):
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
    path = get_target("onnx").lower(quantize_model(model, recipe.quantize), recipe, tmp_path)
    assert artifact_mb(model, recipe) == pytest.approx(path.stat().st_size / 1e6, rel=0.03)


def test_rounding_more_coarsely_is_felt_more_and_a_second_float_costs_nothing(
    policy: Policy, tiny_prompts: list[str]
) -> None:
    fine = QuantRule(match="*", bits=8)
    names = ("lm_head", "model.layers.0.mlp.*")
    rules = [QuantRule(match=name, bits=4, group_size=32) for name in names]
    coarse = measure_sensitivity(policy, rules, fine, tiny_prompts[:16])
    finer = measure_sensitivity(policy, [fine.model_copy(update={"match": name}) for name in names], fine, tiny_prompts)
    for rough, smooth in zip(coarse, finer, strict=True):
        assert rough.margin_shift > 4 * smooth.margin_shift > 0
        assert rough.divergence > 4 * smooth.divergence > 0
        assert smooth.extra_mb == 0.0
        assert rough.extra_mb > 0.0


def test_spending_takes_the_most_saved_per_megabyte_first() -> None:
    rule = QuantRule(match="*", bits=8)

    def item(name: str, divergence: float, mb: float) -> Sensitivity:
        return Sensitivity(rule, rule.model_copy(update={"match": name}), 0.0, 0.0, divergence, mb)

    found = [item("dear", 3.0, 3.0), item("cheap", 2.0, 1.0), item("idle", 0.1, 1.0)]
    assert [r.match for r in spend(found, 2.0)] == ["cheap", "idle"]
    assert [r.match for r in spend(found, 4.0)] == ["cheap", "dear"]
    assert spend(found, 0.5) == []


def test_a_tied_table_counts_once_and_twice_under_unlike_rules(policy: Policy) -> None:
    four, eight = QuantRule(match="*", bits=4, group_size=32), QuantRule(match="lm_head", bits=8)
    table = policy.model.lm_head.weight.numel()
    rows = policy.model.lm_head.weight.shape[0]
    both = weight_mb(policy.model, (four,)) * 1e6
    assert weight_mb(policy.model, (eight, four)) * 1e6 - both == pytest.approx(table + 2 * rows)


def test_every_candidate_fits_its_target_and_is_tried(policy: Policy, tiny_prompts: list[str]) -> None:
    for target in ("onnx", "executorch", "coreml"):
        plain = find_recipe(f"{target}_int4", target)
        said: list[str] = []
        if recipe_problems(policy.model, plain.quantize):
            rules = tuple(
                r.model_copy(update={"group_size": min(r.group_size, 32)}) if r.bits == 4 else r
                for r in plain.quantize.rules
            )
            plain = plain.model_copy(update={"quantize": plain.quantize.model_copy(update={"rules": rules})})
        recipes = candidates(policy, plain, tiny_prompts[:8], said.append)
        assert len({recipe.name for recipe in recipes}) == len(recipes) >= 7
        assert all(not recipe_problems(policy.model, recipe.quantize) for recipe in recipes)
        if target == "onnx":
            points = evaluate(policy, recipes, tiny_prompts[:16], tiny_prompts[16:], said.append)
            assert len(points) == len(recipes)
            assert any(p.on_frontier for p in points)
            assert replace(points[0]).to_json()["recipe"]["target"] == "onnx"
