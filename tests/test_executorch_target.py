"""The ExecuTorch file computes what the quantized model computes, in XNNPACK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.errors import BundleError, EdgekitError
from edgekit.export.capture import capture
from edgekit.export.recipe import load_recipe
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.policy.reference import ReferenceModel
from edgekit.quantize.quantized import quantize_model
from edgekit.quantize.recipe import QuantRecipe, QuantRule

pytest.importorskip("executorch")

from edgekit.export.targets import to_executorch
from edgekit.simulate import on_executorch

RECIPES = Path(__file__).parents[1] / "export_recipes"
LLAMA = ModelConfig(300, 64, 128, 2, 4, 2, 16, 128)
QWEN = ModelConfig(300, 64, 96, 1, 4, 2, 16, 128, attention_bias=True, qk_norm=True, tie_word_embeddings=False)


def random_model(config: ModelConfig) -> PolicyModel:
    """A model whose every parameter differs from its neighbours, norms and biases included."""
    model = PolicyModel(config)
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        spread = 0.2 if parameter.dim() == 1 else parameter.shape[1] ** -0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread + (parameter.dim() == 1)
    return model


def check_equal(config: ModelConfig, precision: str, folder: Path) -> bytes:
    recipe = load_recipe(RECIPES / f"executorch_{precision}.yaml")
    quantized = quantize_model(random_model(config), recipe.quantize)
    path = to_executorch.lower(quantized, recipe, folder)
    artifact = on_executorch.open_artifact(path, recipe.context_length, recipe.prefill_chunk)
    reference = ReferenceModel(quantized)
    for prompt in ([5, 17, 250, 3, 99, 120, 121, 42, 7], [299, 0]):  # the second one over the first one's cache
        artifact.reset()
        reference.reset()
        np.testing.assert_allclose(artifact.prefill(prompt), reference.prefill(prompt), atol=1e-4)
        for token in (11, 250, 0, 299, 63):
            np.testing.assert_allclose(artifact.decode(token), reference.decode(token), atol=1e-4)
    return path.read_bytes()


def test_int4_prefill_and_decode_equal_the_quantized_model_inside_xnnpack(tmp_path: Path) -> None:
    data = check_equal(LLAMA, "int4", tmp_path)
    assert b"XnnpackBackend" in data
    assert b"quantized_decomposed" not in data  # every integer linear is in a delegate, none runs outside


@pytest.mark.slow
def test_int4_with_biases_and_qk_norms_equals_the_quantized_model(tmp_path: Path) -> None:
    check_equal(QWEN, "int4", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("config", [LLAMA, QWEN], ids=["llama", "qwen"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_precisions_equal_the_quantized_model(config: ModelConfig, precision: str, tmp_path: Path) -> None:
    check_equal(config, precision, tmp_path)


def test_rewriting_keeps_integers_scales_and_results() -> None:
    recipe = load_recipe(RECIPES / "executorch_int4.yaml")
    quantized = quantize_model(random_model(LLAMA), recipe.quantize)
    rewritten = to_executorch.rewrite_linears(capture(quantized, 128, tokens=None, stateful=True))
    for name, expected in quantized.state_dict().items():
        if name.endswith((".values", ".scales")):
            stored = rewritten.state_dict[f"policy.{name}"]
            assert torch.equal(stored.reshape(expected.shape), expected), name
    targets = [str(node.target) for node in rewritten.graph.nodes]
    assert not any("edgekit" in target for target in targets)
    # q, k, v share one rounded input and gate, up another: 4 of 7 linears a layer round, and the head.
    assert sum("quantize_per_token.default" in t and "dequantize" not in t for t in targets) == 2 * 4 + 1


@pytest.mark.parametrize(
    ("quantize", "fault"),
    [
        (QuantRecipe(rules=(QuantRule(match="lm_head", bits=8),)), "float activations"),
        (
            QuantRecipe(rules=(QuantRule(match="lm_head", bits=8, group_size=32),), activations="int8"),
            "8 bits in groups",
        ),
        (QuantRecipe(rules=(QuantRule(match="lm_head", bits=4, group_size=16),), activations="int8"), "group_size 16"),
    ],
)
def test_what_xnnpack_cannot_run_is_refused_with_the_setting_to_change(
    quantize: QuantRecipe, fault: str, tmp_path: Path
) -> None:
    recipe = load_recipe(RECIPES / "executorch_int4.yaml").model_copy(update={"quantize": quantize})
    with pytest.raises(EdgekitError, match=f"lm_head for XNNPACK: {fault}"):
        to_executorch.lower(quantize_model(random_model(LLAMA), quantize), recipe, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_context_beyond_the_trained_positions_is_refused() -> None:
    with pytest.raises(EdgekitError, match="context_length too long: 256"):
        capture(random_model(LLAMA), 256, tokens=None, stateful=True)


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model.pte").write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"cannot load .*model\.pte"):
        on_executorch.open_artifact(tmp_path / "model.pte", 128, 16)
