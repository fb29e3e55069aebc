"""Fitting recipes: every reason against one at once, and other numbers where groups do not divide a weight."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.fit import fit_recipe, recipe_problems
from edgekit.recipes.lookup import find_recipe, named_recipes
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.recipes.targets import TARGETS, get_target
from edgekit.recipes.weights import EMBEDDING, DecoderSizes

PLAIN = DecoderSizes(320, 128, 256, 2, 4, 2, 32).shapes()
ODD = DecoderSizes(320, 128, 172, 2, 4, 2, 32).shapes()
"""172 inputs of down_proj: no group of 16 or more divides them."""


def recipe(target: str, rules: list[dict[str, Any]], **settings: Any) -> ExportRecipe:
    quantize = {"rules": rules, "activations": get_target(target).activations[0], **settings.pop("quantize", {})}
    given = {"name": "test", "description": "", "target": target, "precision": "int4", "quantize": quantize}
    return ExportRecipe.model_validate(given | settings)


@pytest.mark.parametrize("name", sorted(named_recipes()))
def test_every_shipped_recipe_fits_an_ordinary_model_as_it_is(name: str) -> None:
    shipped = find_recipe(name, name.partition("_")[0])
    assert recipe_problems(shipped, PLAIN) == []
    assert fit_recipe(shipped, PLAIN) == (shipped, [])


@pytest.mark.parametrize("name", sorted(name for name in named_recipes() if "int4" in name))
def test_every_shipped_4_bit_recipe_takes_a_width_that_its_groups_do_not_divide(name: str) -> None:
    shipped = find_recipe(name, name.partition("_")[0])
    assert recipe_problems(shipped, ODD) == []
    fitted, (fallback,) = fit_recipe(shipped, ODD)
    assert fallback.given.match == "model.layers.*.mlp.down_proj"
    assert fallback.given.bits == (16 if shipped.target == "onnx" else 8)
    assert fallback.to_json()["asked"]["bits"] == 4
    assert "172 inputs" in str(fallback)
    for weight in ODD:
        same = fitted.quantize.rule_for(weight) == shipped.quantize.rule_for(weight)
        assert same == (not weight.endswith("down_proj")), weight


@pytest.mark.parametrize(
    ("target", "rules", "given"),
    [
        ("onnx", [{"match": "*", "bits": 4, "group_size": 128}], {"*.down_proj": (4, 32), "*.o_proj": (4, 16)}),
        ("onnx", [{"match": "*", "bits": 8, "group_size": 64}], {"*.down_proj": (8, 32), "*.o_proj": (8, 16)}),
        ("executorch", [{"match": "*", "bits": 4, "group_size": 64}], {"*.down_proj": (4, 32), "*.o_proj": (8, 0)}),
        ("coreml", [{"match": "*", "bits": 4, "group_size": 64}], {"*.down_proj": (4, 32), "*.o_proj": (4, 16)}),
        ("coreml", [{"match": "*.o_proj", "bits": 4, "group_size": 48, "palette": True}], {"*.o_proj": (8, 0)}),
    ],
)
def test_shorter_groups_are_tried_before_more_bits(
    target: str, rules: list[dict[str, Any]], given: dict[str, tuple[int, int]]
) -> None:
    shapes = DecoderSizes(256, 256, 352, 1, 3, 1, 16).shapes() | {"model.layers.0.self_attn.o_proj": (256, 48)}
    fitted, fallbacks = fit_recipe(recipe(target, rules), shapes)
    found = {"*." + one.given.match.rpartition(".")[2]: (one.given.bits, one.given.group_size) for one in fallbacks}
    assert found == given
    assert recipe_problems(fitted, shapes) == []


def test_a_rule_for_one_layer_does_not_take_the_other_layers_along() -> None:
    rules = [{"match": "model.layers.0.*", "bits": 4, "group_size": 32}, {"match": "*", "bits": 8}]
    fitted, (fallback,) = fit_recipe(recipe("coreml", rules), ODD)
    assert fallback.given.match == "model.layers.0.mlp.down_proj"
    assert fitted.quantize.rule_for("model.layers.1.mlp.down_proj") == QuantRule(match="*", bits=8)


def test_every_reason_is_listed_at_once() -> None:
    rules = [
        {"match": "nothing.*", "bits": 8},
        {"match": "*", "bits": 4, "group_size": 8},
        {"match": "lm_head", "bits": 8},
    ]
    settings = {"compute": "float16", "prefill_chunk": 32, "quantize": {"activations": "int8"}}
    problems = recipe_problems(recipe("onnx", rules, **settings), PLAIN)
    said = [
        "compute: float16 would change nothing, onnx does not read it; leave it out",
        "prefill_chunk: 32 would change nothing, onnx does not read it; leave it out",
        "quantize.activations: int8, onnx takes float or int8_block",
        "rules[0]: nothing.* matches no weight of this model",
        f"rules[1]: 4 bits in groups of 8 for {EMBEDDING}, onnx takes 4 bits in groups of multiples of 16, "
        "8 bits in groups of multiples of 16, 16 or 32 bits",
        "rules[2]: lm_head matches only weights that the rules before it match",
    ]
    assert problems == said


@pytest.mark.parametrize(
    ("target", "settings", "said"),
    [
        ("coreml", {"layout": "standard"}, "layout: standard would change nothing, coreml"),
        ("executorch", {"layout": "standard"}, "layout: standard would change nothing, executorch"),
        ("executorch", {"compute": "float16"}, "compute: float16 would change nothing, executorch"),
        ("executorch", {"prefill_chunk": 8}, "prefill_chunk: 8 would change nothing, executorch"),
        ("coreml", {"prefill_chunk": 64, "context_length": 64}, "prefill_chunk: 64 leaves no room to answer"),
        ("coreml", {"quantize": {"activations": "int8"}}, "activations: int8, coreml takes float"),
        ("executorch", {"quantize": {"activations": "float"}}, "activations: float, executorch takes int8"),
        ("executorch", {"quantize": {"calibration_prompts": 9}}, "calibration_prompts: 9 would change nothing"),
        ("coreml", {"quantize": {"cache": "int8", "calibration_prompts": 9}}, "cache: int8, coreml takes float"),
    ],
)
def test_a_setting_that_the_target_does_not_read_or_take_is_refused(
    target: str, settings: dict[str, Any], said: str
) -> None:
    (problem,) = recipe_problems(recipe(target, [{"match": "*", "bits": 8}], **settings), PLAIN)
    assert said in problem


def test_what_is_said_of_integers_is_refused_where_no_rule_gives_any() -> None:
    settings = {"quantize": {"activations": "int8", "rounding": "gptq"}}
    problems = recipe_problems(recipe("executorch", [], **settings), PLAIN)
    assert [problem.partition(":")[0] for problem in problems] == ["quantize.activations", "quantize.rounding"]


@pytest.mark.parametrize(
    ("target", "rule", "said"),
    [
        ("executorch", {"bits": 8, "group_size": 32}, "8 bits with one scale per output channel"),
        ("executorch", {"bits": 4, "group_size": 16}, "4 bits in groups of multiples of 32"),
        ("onnx", {"bits": 4, "group_size": 16, "palette": True}, "4 bits from palettes of 16 channels for lm_head"),
        ("executorch", {"bits": 4, "group_size": 16, "palette": True}, "4 bits from palettes"),
    ],
)
def test_integers_that_a_target_s_kernels_do_not_know_are_refused(target: str, rule: dict[str, Any], said: str) -> None:
    (problem,) = recipe_problems(recipe(target, [{"match": "lm_head", **rule}]), PLAIN)
    assert said in problem


def test_a_group_as_long_as_the_row_is_a_scale_per_channel() -> None:
    whole = recipe("executorch", [{"match": "lm_head", "bits": 8, "group_size": 128}])
    assert recipe_problems(whole, PLAIN) == []
    assert fit_recipe(whole, PLAIN) == (whole, [])


SIZES = st.builds(
    DecoderSizes,
    vocab_size=st.integers(33, 400),
    hidden_size=st.integers(8, 300),
    intermediate_size=st.integers(8, 300),
    layers=st.integers(1, 3),
    attention_heads=st.just(4),
    key_value_heads=st.sampled_from([1, 2, 4]),
    head_dim=st.sampled_from([6, 16, 100, 128]),
)


@given(SIZES, st.sampled_from(sorted(named_recipes())))
def test_a_fitted_recipe_gives_every_weight_numbers_that_its_target_takes(sizes: DecoderSizes, name: str) -> None:
    shipped, shapes = find_recipe(name, name.partition("_")[0]), sizes.shapes()
    fitted, fallbacks = fit_recipe(shipped, shapes)
    target = get_target(shipped.target)
    changed = {weight for weight in shapes if fitted.quantize.rule_for(weight) != shipped.quantize.rule_for(weight)}
    listed = QuantRecipe(rules=tuple(fallback.given for fallback in fallbacks))
    assert changed == {weight for weight in shapes if listed.rule_for(weight)}
    assert fit_recipe(fitted, shapes) == (fitted, [])
    for weight, (out, width) in shapes.items():
        rule = fitted.quantize.rule_for(weight)
        if rule is not None and rule.bits <= 8:
            taken = target.tables if weight == EMBEDDING else target.linears
            assert any(integers.takes(rule, out if rule.palette else width) for integers in taken), (weight, rule)


def test_an_unknown_target_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown target 'tpu', edgekit has onnx, executorch, coreml"):
        ExportRecipe(name="x", description="", target="tpu", precision="int4")
    assert all(target.name == name for name, target in TARGETS.items())
