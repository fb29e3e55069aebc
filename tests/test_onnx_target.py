"""The ONNX file computes what the quantized model computes, with the very integers of the quantized model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.errors import BundleError, EdgekitError
from edgekit.export.recipe import ExportRecipe, load_recipe
from edgekit.export.targets import to_onnx
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.policy.reference import ReferenceModel
from edgekit.quantize.integers import QuantizedLinear
from edgekit.quantize.quantized import quantize_model
from edgekit.quantize.recipe import QuantRecipe, QuantRule
from edgekit.simulate import on_onnxruntime

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

RECIPES = Path(__file__).parents[1] / "export_recipes"
LLAMA = ModelConfig(300, 64, 128, 2, 4, 2, 16, 128)
QWEN = ModelConfig(300, 128, 192, 2, 4, 2, 32, 128, attention_bias=True, qk_norm=True, tie_word_embeddings=False)


def random_model(config: ModelConfig) -> PolicyModel:
    """A model whose every parameter differs from its neighbours, norms and biases included."""
    model = PolicyModel(config)
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        spread = 0.2 if parameter.dim() == 1 else parameter.shape[1] ** -0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread + (parameter.dim() == 1)
    return model


def export(config: ModelConfig, precision: str, folder: Path) -> tuple[Path, PolicyModel, ExportRecipe]:
    recipe = load_recipe(RECIPES / f"onnx_{precision}.yaml")
    quantized = quantize_model(random_model(config), recipe.quantize)
    return to_onnx.lower(quantized, recipe, folder), quantized, recipe


@pytest.mark.parametrize("config", [LLAMA, QWEN], ids=["llama", "qwen"])
@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_prefill_and_decode_equal_the_quantized_model(config: ModelConfig, precision: str, tmp_path: Path) -> None:
    path, quantized, recipe = export(config, precision, tmp_path)
    artifact = on_onnxruntime.open_artifact(path, recipe.context_length, recipe.prefill_chunk)
    reference = ReferenceModel(quantized)
    for prompt in ([5, 17, 250, 3, 99, 120, 121, 42, 7], [299, 0]):  # the second one over the first one's cache
        artifact.reset()
        reference.reset()
        np.testing.assert_allclose(artifact.prefill(prompt), reference.prefill(prompt), atol=1e-4)
        for token in (11, 250, 0, 299, 63):
            np.testing.assert_allclose(artifact.decode(token), reference.decode(token), atol=1e-4)


def test_the_file_holds_the_integers_and_scales_of_the_quantized_model(tmp_path: Path) -> None:
    path, quantized, _ = export(LLAMA, "int4", tmp_path)
    graph = onnx.load(str(path)).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = {node.name.partition("policy.")[2]: node for node in graph.node if node.op_type == "MatMulNBits"}
    linears = {name: module for name, module in quantized.named_modules() if isinstance(module, QuantizedLinear)}
    assert nodes.keys() == linears.keys()
    for name, linear in linears.items():
        attributes = {item.name: item.i for item in nodes[name].attribute}
        packed, scales = (tensors[item] for item in nodes[name].input[1:])
        assert attributes["bits"] == linear.bits
        np.testing.assert_array_equal(to_onnx.unpack_values(packed, linear.bits), linear.values.numpy())
        repeats = scales.size // linear.scales.numel()
        np.testing.assert_array_equal(
            scales.reshape(linear.values.shape[0], -1), linear.scales.numpy().repeat(repeats, 1)
        )


def test_inputs_and_outputs_are_named_for_people(tmp_path: Path) -> None:
    path, _, recipe = export(LLAMA, "fp32", tmp_path)
    graph = onnx.load(str(path)).graph
    assert [item.name for item in graph.input] == [
        "input_ids", "position", "past_key_0", "past_value_0", "past_key_1", "past_value_1",
    ]  # fmt: skip
    assert [item.name for item in graph.output] == [
        "logits", "present_key_0", "present_value_0", "present_key_1", "present_value_1",
    ]  # fmt: skip
    cache = [dimension.dim_value for dimension in graph.input[2].type.tensor_type.shape.dim]
    assert cache == [1, 2, recipe.context_length, 16]


def test_the_file_names_no_path_of_the_exporting_machine(tmp_path: Path) -> None:
    path, _, _ = export(LLAMA, "int4", tmp_path)
    data = path.read_bytes()
    assert b"stack_trace" not in data
    assert str(Path(to_onnx.__file__).parents[2]).encode() not in data


@pytest.mark.parametrize("bits", [4, 8])
def test_packing_loses_no_integer(bits: int) -> None:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    values = np.resize(np.arange(low, high + 1, dtype=np.int8), (3, 256))
    packed = to_onnx.pack_values(values, bits, 32)
    assert packed.shape == (3, 8, 4 * bits)
    np.testing.assert_array_equal(to_onnx.unpack_values(packed, bits), values)


def test_eight_bit_activations_ask_onnxruntime_for_integer_arithmetic(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / "onnx_int4.yaml")
    recipe = recipe.model_copy(update={"quantize": recipe.quantize.model_copy(update={"activations": "int8"})})
    quantized = quantize_model(random_model(LLAMA), recipe.quantize)
    graph = onnx.load(str(to_onnx.lower(quantized, recipe, tmp_path))).graph
    levels = {
        item.i
        for node in graph.node
        if node.op_type == "MatMulNBits"
        for item in node.attribute
        if item.name == "accuracy_level"
    }
    assert levels == {4}


def test_a_group_onnxruntime_cannot_hold_is_refused_before_writing(tmp_path: Path) -> None:
    rules = (QuantRule(match="model.layers.*", bits=4, group_size=8),)
    recipe = load_recipe(RECIPES / "onnx_int4.yaml").model_copy(update={"quantize": QuantRecipe(rules=rules)})
    with pytest.raises(EdgekitError, match="group of 8 inputs"):
        to_onnx.lower(quantize_model(random_model(LLAMA), recipe.quantize), recipe, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"cannot load .*model\.onnx"):
        on_onnxruntime.open_artifact(tmp_path / "model.onnx", 128, 16)
