"""Bytes of weights, counted from shapes and rules alone."""

from __future__ import annotations

import pytest

from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.quantize.quantized import weight_shapes
from edgekit.recipes.quant_recipe import QuantRule
from edgekit.recipes.weights import FLOATS, DecoderSizes, Storage, matched_bytes, weight_bytes

HALVES = Storage(scale=2, number=4, shares_table=True)


def test_shapes_from_sizes_are_those_of_the_model() -> None:
    config = ModelConfig(300, 64, 128, 3, 4, 2, 24, 32, attention_bias=True, tie_word_embeddings=False)
    assert DecoderSizes(300, 64, 128, 3, 4, 2, 24).shapes() == weight_shapes(PolicyModel(config))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (FLOATS, 96 * 64 * 4),
        (QuantRule(match="*", bits=16), 96 * 64 * 4),  # how a float is stored is the target's and its compute's matter
        (QuantRule(match="*", bits=8), 96 * 64 + 96 * 2),
        (QuantRule(match="*", bits=4, group_size=32), 96 * 32 + 96 * 2 * 2),
        (QuantRule(match="*", bits=4, group_size=8, palette=True), 96 * 32 + 12 * 16 * 2),
    ],
)
def test_a_weight_s_bytes_are_its_numbers_and_scales(rule: QuantRule, expected: int) -> None:
    assert weight_bytes((96, 64), rule, HALVES) == expected


def test_a_tied_table_counts_once_and_twice_under_unlike_rules_or_where_it_is_not_shared() -> None:
    shapes = DecoderSizes(256, 64, 128, 1, 4, 2, 16).shapes()
    four, eight = QuantRule(match="*", bits=4, group_size=32), QuantRule(match="lm_head", bits=8)
    table = 256 * 64 // 2 + 256 * 2 * 2
    once = matched_bytes(shapes, (four,), HALVES, tied=True)
    assert matched_bytes(shapes, (four,), HALVES, tied=False) == once + table
    assert matched_bytes(shapes, (four,), Storage(2, 4, shares_table=False), tied=True) == once + table
    assert matched_bytes(shapes, (eight, four), HALVES, tied=True) == once + 256 * 64 + 256 * 2


def test_what_no_rule_matches_is_not_counted() -> None:
    shapes = DecoderSizes(256, 64, 128, 1, 4, 2, 16).shapes()
    assert matched_bytes(shapes, (QuantRule(match="lm_head", bits=8),), HALVES, tied=True) == 256 * 64 + 512
