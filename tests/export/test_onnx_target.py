"""The ONNX file computes what the quantized model computes, with the very integers of the quantized model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from export.random_models import random_model
from numpy.typing import NDArray

from edgekit.errors import BundleError
from edgekit.export.targets import onnx_graph, onnx_oldest, onnx_weights, to_onnx
from edgekit.policy.activations import fake_quantize_blocks
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.policy.reference import ReferenceModel
from edgekit.policy.traits import LayerTraits
from edgekit.quantize.cache import calibrate_caches
from edgekit.quantize.integers import QuantizedLinear, quantize_weight
from edgekit.quantize.quantized import quantize_model
from edgekit.recipes.export_recipe import ExportRecipe, load_recipe
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.simulate import on_onnxruntime

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

RECIPES = Path(__file__).parents[2] / "export_recipes"
FAMILIES = {
    "llama": ModelConfig(300, 64, 128, 2, 4, 2, 16, 128),
    "qwen2": ModelConfig(300, 128, 192, 2, 4, 2, 32, 128, attention_bias=True),
    "qwen3": ModelConfig(300, 128, 192, 2, 4, 2, 64, 128, qk_norm="head", tie_word_embeddings=False),
    "one_layer": ModelConfig(300, 64, 128, 1, 2, 2, 32, 128, attention_bias=True, qk_norm="head"),
}
FLOAT_INT4 = QuantRecipe(rules=(QuantRule(match="*", bits=4, group_size=32),))
MIXED = QuantRecipe(
    rules=(
        QuantRule(match="*.q_proj", bits=8, group_size=64),
        QuantRule(match="*.gate_proj", bits=32),
        QuantRule(match="lm_head", bits=8),
        QuantRule(match="*.embed_tokens", bits=16),
        QuantRule(match="*", bits=4, group_size=16),
    )
)


def export(
    config: ModelConfig, folder: Path, quantize: QuantRecipe | str, layout: str = "fused"
) -> tuple[Path, PolicyModel]:
    """Lower a random model by a shipped recipe's rules (by name) or by given ones."""
    if isinstance(quantize, str):
        quantize = load_recipe(RECIPES / f"{quantize}.yaml").quantize
    recipe = ExportRecipe.model_validate(
        {"name": "test", "description": "", "target": "onnx", "precision": "fp32", "layout": layout}
    )
    quantized = quantize_model(random_model(config), quantize)
    return to_onnx.lower(quantized, recipe, folder), quantized


def unpacked(packed: NDArray[np.uint8], bits: int) -> NDArray[np.int8]:
    """An ONNX file's bytes (out, blocks, bytes) -> its integers (out, in): less 2^(bits-1), low nibbles first."""
    if bits == 4:
        packed = np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=-1)
    return (packed.reshape(len(packed), -1) - np.uint8(2 ** (bits - 1))).view(np.int8)


@pytest.mark.parametrize("layout", ["fused", "standard"])
@pytest.mark.parametrize("quantize", ["onnx_fp32", FLOAT_INT4, MIXED], ids=["fp32", "int4", "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_chunks_and_decode_equal_the_quantized_model(
    family: str, quantize: QuantRecipe | str, layout: str, tmp_path: Path
) -> None:
    path, quantized = export(FAMILIES[family], tmp_path, quantize, layout)
    artifact, reference = on_onnxruntime.open_artifact(path, 128, 16), ReferenceModel(quantized)
    for prompt in ([5, 17, 250, 3, 99, 120, 121, 42, 7], [299, 0]):  # the second one over the first one's cache
        artifact.reset()
        reference.reset()
        np.testing.assert_allclose(artifact.prefill(prompt), reference.prefill(prompt), atol=1e-4)
        np.testing.assert_allclose(artifact.prefill([8, 1, 77]), reference.prefill([8, 1, 77]), atol=1e-4)
        for token in (11, 250, 0, 299, 63):
            np.testing.assert_allclose(artifact.decode(token), reference.decode(token), atol=1e-4)


def with_int8_cache(config: ModelConfig) -> PolicyModel:
    """A random model whose caches lie on grids that span random tokens."""
    model = quantize_model(random_model(config), QuantRecipe())
    tokens = torch.randint(0, 300, (4, 60), generator=torch.Generator().manual_seed(0))
    calibrate_caches(model, [(tokens, tokens >= 0)])
    return model


@pytest.mark.parametrize(
    "config",
    [
        FAMILIES["llama"],
        FAMILIES["qwen3"],
        dataclasses.replace(FAMILIES["llama"], head_dim=12),
        dataclasses.replace(FAMILIES["llama"], layers=(LayerTraits(window=9), LayerTraits(rope=None))),
    ],
    ids=["packed", "normed", "filled", "window and no rope"],
)
def test_a_cache_of_integers_holds_what_the_reference_s_grid_does(
    config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_onnxruntime, "INTEGER_CALL", 5)  # a prompt of several calls, the last one full
    model, floats = with_int8_cache(config), ReferenceModel(quantize_model(random_model(config), QuantRecipe()))
    path = to_onnx.lower(model, load_recipe(RECIPES / "onnx_fp32.yaml"), tmp_path)
    artifact, reference = on_onnxruntime.open_artifact(path, 128, 16), ReferenceModel(model)
    apart, from_floats = [], []
    for prompt in np.random.default_rng(0).integers(0, 300, (3, 30)).tolist():
        for one in (artifact, reference, floats):
            one.reset()
        for step in (prompt[:15], prompt[15:18], *([token] for token in prompt[18:])):  # a chunk, a second one, tokens
            logits, expected, unrounded = (one.prefill(step) for one in (artifact, reference, floats))
            apart.append(np.abs(logits - expected).max())
            from_floats.append(np.abs(logits - unrounded).max())
    assert np.median(apart) < 1e-5
    assert max(apart) < 0.1 * np.median(from_floats)  # where a number lies on the edge between two integers
    caches = [i for i in onnx.load(str(path)).graph.input if i.name.startswith("past_")]
    assert {cache.type.tensor_type.elem_type for cache in caches} == {onnx.TensorProto.INT8}


@pytest.mark.parametrize("recipe", ["onnx_int4", "onnx_int8"])
def test_integer_arithmetic_equals_the_quantized_model_but_for_rare_ties(recipe: str, tmp_path: Path) -> None:
    path, quantized = export(FAMILIES["llama"], tmp_path, recipe)
    floats = quantize_model(random_model(FAMILIES["llama"]), FLOAT_INT4)
    artifact, reference, other = on_onnxruntime.open_artifact(path, 128, 16), *map(ReferenceModel, (quantized, floats))
    prompts = np.random.default_rng(0).integers(0, 300, (20, 9)).tolist()
    apart, from_floats = [], []
    for prompt in prompts:
        for model in (artifact, reference, other):
            model.reset()
        logits, expected, unrounded = (model.prefill(prompt) for model in (artifact, reference, other))
        apart.append(np.abs(logits - expected).max())
        from_floats.append(np.abs(logits - unrounded).max())
    assert np.median(apart) < 1e-4  # where no activation lies on the edge between two integers
    assert max(apart) < 0.1
    assert np.median(from_floats) > 100 * np.median(apart)


@pytest.mark.parametrize("block", [16, 32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_reference_rounds_activations_as_onnxruntime_does(bits: int, block: int, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = quantize_weight(torch.randn(96, 256, generator=generator), bits, block)
    graph = onnx_graph.Graph()
    graph.input("x", np.float32, ("tokens", 256))
    graph.output("y", np.float32, ("tokens", 96))
    onnx_weights.linear(graph, "y", [QuantizedLinear(weight, None, "int8_block")], "x")
    onnx_graph.write_graph(graph, tmp_path / "one.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "one.onnx"))
    for tokens in (1, 70):
        x = torch.randn(tokens, 256, generator=generator)
        expected = fake_quantize_blocks(x, block) @ weight.dequantize().T
        np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], expected, atol=1e-4)


@pytest.mark.parametrize("recipe", ["onnx_int4", "onnx_int8"])
def test_the_file_holds_the_integers_and_scales_of_the_quantized_model(recipe: str, tmp_path: Path) -> None:
    path, quantized = export(FAMILIES["qwen2"], tmp_path, recipe)
    graph = onnx.load(str(path)).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = {node.name: node for node in graph.node if node.op_type == "MatMulNBits"}
    joined = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
    seen = set()
    for name, node in nodes.items():
        parent, _, child = name.rpartition(".")
        linears = [f"{parent}.{part}".strip(".") for part in joined.get(child, (child,))]
        modules = [quantized.get_submodule(linear) for linear in linears]
        packed, scales = (tensors[item] for item in node.input[1:3])
        values = np.concatenate([module.values.numpy() for module in modules])
        np.testing.assert_array_equal(unpacked(packed, modules[0].bits), values)
        expected = np.concatenate([module.scales.numpy() for module in modules])
        np.testing.assert_array_equal(scales.reshape(expected.shape), expected)
        seen |= set(linears)
    assert seen == {name for name, module in quantized.named_modules() if isinstance(module, QuantizedLinear)}


@pytest.mark.parametrize("recipe", ["onnx_fp32", "onnx_int8", "onnx_int4"])
def test_a_tied_table_is_stored_once(recipe: str, tmp_path: Path) -> None:
    path, quantized = export(FAMILIES["llama"], tmp_path, recipe)
    weights = sum(parameter.numel() for parameter in quantized.model.layers.parameters())
    weights += sum(b.numel() for name, b in quantized.model.layers.named_buffers() if name.endswith("values"))
    table = FAMILIES["llama"].vocab_size * FAMILIES["llama"].hidden_size
    bytes_each = {"onnx_fp32": 4, "onnx_int8": 1 + 4 / 64, "onnx_int4": 0.5 + 4 / 64}[recipe]
    stored = sum(
        onnx.numpy_helper.to_array(tensor).nbytes
        for tensor in onnx.load(str(path)).graph.initializer
        if not tensor.name.endswith("_cache")
    )
    assert stored < (weights + table) * bytes_each * 1.02 + 4 * 64 * 5 + 200
    assert stored > table * bytes_each


@pytest.mark.parametrize("recipe", ["onnx_fp32", "onnx_int4"])
def test_the_last_tokens_row_alone_reaches_the_head(recipe: str, tmp_path: Path) -> None:
    path, _ = export(FAMILIES["one_layer"], tmp_path, recipe)
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model = on_onnxruntime.FusedModel(session, 128)
    for length in (1, 12, 100):
        model.reset()
        model.prefill(range(length))
    events = json.loads(Path(session.end_profiling()).read_text())
    read = [event["args"]["input_type_shape"][0] for event in events if event["name"] == "lm_head_kernel_time"]
    assert [shape for each in read for shape in each.values()] == [[1, 64]] * 3


@pytest.mark.parametrize("layout", ["fused", "standard"])
def test_identical_inputs_give_identical_bytes(layout: str, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path, _ = export(FAMILIES["qwen3"], tmp_path / name, "onnx_int4", layout)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
        assert str(Path(to_onnx.__file__).parents[2]).encode() not in path.read_bytes()
    assert len(digests) == 1


@pytest.mark.parametrize("recipe", ["onnx_fp32", "onnx_int4"])
def test_weights_beyond_the_limit_go_to_a_file_of_their_own(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "INLINE_LIMIT", 10_000)
    path, quantized = export(FAMILIES["llama"], tmp_path, recipe)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx_data"]
    assert path.stat().st_size < 30_000
    artifact, reference = on_onnxruntime.open_artifact(path, 128, 16), ReferenceModel(quantized)
    np.testing.assert_allclose(artifact.prefill([4, 9, 2]), reference.prefill([4, 9, 2]), atol=1e-4)


def test_inputs_and_outputs_are_named_for_people(tmp_path: Path) -> None:
    path, _ = export(FAMILIES["llama"], tmp_path, "onnx_fp32")
    graph = onnx.load(str(path)).graph
    assert [item.name for item in graph.input] == [
        "input_ids", "position", "past_key_0", "past_value_0", "past_key_1", "past_value_1",
    ]  # fmt: skip
    assert [item.name for item in graph.output] == [
        "logits", "present_key_0", "present_value_0", "present_key_1", "present_value_1",
    ]  # fmt: skip
    cache = [dimension.dim_value for dimension in graph.input[2].type.tensor_type.shape.dim]
    assert cache == [1, 2, 128, 16]  # the recipe's 1024 slots, as far as the model has positions


def test_the_standard_layout_decodes_a_left_padded_batch(tmp_path: Path) -> None:
    path, quantized = export(FAMILIES["qwen2"], tmp_path, "onnx_fp32", "standard")
    session = onnxruntime.InferenceSession(str(path))
    prompts = [[0, 0, 0, 5, 9], [44, 3, 17, 250, 99]]
    mask = np.array([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1]])
    caches = {i.name: np.zeros((2, 2, 0, 32), np.float32) for i in session.get_inputs() if "past" in i.name}
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    feeds = {"input_ids": np.array(prompts), "attention_mask": mask, "position_ids": positions}
    logits, *presents = session.run(None, feeds | caches)
    caches = dict(zip(caches, presents, strict=True))
    mask = np.concatenate([mask, [[1], [1]]], axis=1)
    feeds = {"input_ids": np.array([[7], [8]]), "attention_mask": mask, "position_ids": np.array([[2], [5]])}
    following, *_ = session.run(None, feeds | caches)
    for row, (prompt, token) in enumerate(zip(([5, 9], prompts[1]), (7, 8), strict=True)):
        reference = ReferenceModel(quantized)
        np.testing.assert_allclose(logits[row, -1], reference.prefill(prompt), atol=1e-4)
        np.testing.assert_allclose(following[row, -1], reference.decode(token), atol=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_packing_loses_no_integer(bits: int) -> None:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    values = np.resize(np.arange(low, high + 1, dtype=np.int8), (3, 256))
    packed = onnx_weights.pack_values(values, bits, 32)
    assert packed.shape == (3, 8, 4 * bits)
    np.testing.assert_array_equal(unpacked(packed, bits), values)


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleError, match=r"cannot load .*model\.onnx"):
        on_onnxruntime.open_artifact(tmp_path / "model.onnx", 128, 16)


@pytest.mark.parametrize(
    ("quantize", "layout", "oldest"),
    [
        ("onnx_fp32", "fused", "1.19"),
        ("onnx_fp32", "standard", "1.22"),
        (QuantRecipe(rules=(QuantRule(match="model.layers.*", bits=4, group_size=32),)), "fused", "1.19"),
        (
            QuantRecipe(rules=(QuantRule(match="model.layers.*", bits=8, group_size=32),), activations="int8_block"),
            "fused",
            "1.22",
        ),
        (QuantRecipe(rules=(QuantRule(match="model.layers.*", bits=8, group_size=32),)), "fused", "1.23"),
        ("onnx_int4", "fused", "1.23"),
    ],
)
def test_the_oldest_runtime_follows_from_the_operators(
    quantize: QuantRecipe | str, layout: str, oldest: str, tmp_path: Path
) -> None:
    """Each version was tried: see try_onnxruntime.py."""
    path, quantized = export(FAMILIES["llama"], tmp_path, quantize, layout)
    recipe = load_recipe(RECIPES / "onnx_fp32.yaml").model_copy(update={"layout": layout})
    assert to_onnx.oldest_runtime(quantized, recipe) == oldest
    assert onnx_oldest.oldest_runtime(onnx.load(str(path)).graph.node) == oldest


def test_a_cache_of_integers_needs_the_first_runtime_with_a_kernel_for_it() -> None:
    """1.26 ends the first step with a type it does not expect; 1.27 computes what 1.31 does."""
    recipe = load_recipe(RECIPES / "onnx_fp32.yaml")
    assert to_onnx.oldest_runtime(with_int8_cache(FAMILIES["llama"]), recipe) == "1.27"


@pytest.mark.parametrize("layout", ["fused", "standard"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_operator_was_tried_in_old_runtimes(family: str, layout: str) -> None:
    recipe = load_recipe(RECIPES / "onnx_fp32.yaml").model_copy(update={"layout": layout})
    graph = to_onnx.build_graph(quantize_model(random_model(FAMILIES[family]), MIXED), recipe)
    assert {node.op_type for node in graph.nodes} <= onnx_oldest.TRIED


@pytest.mark.parametrize("head_dim", [6, 100, 120, 256])
@pytest.mark.parametrize("qk_norm", [None, "head"])
def test_heads_of_any_length_run_filled_up_to_what_the_operator_takes(
    head_dim: int, qk_norm: str | None, tmp_path: Path
) -> None:
    """An export of heads of 100 or 120 channels succeeded, and every run of it ended in the operator's error."""
    config = dataclasses.replace(FAMILIES["llama"], head_dim=head_dim, num_key_value_heads=1, qk_norm=qk_norm)
    path, quantized = export(config, tmp_path, "onnx_fp32")
    artifact, reference = on_onnxruntime.open_artifact(path, 128, 16), ReferenceModel(quantized)
    for step in ([5, 17, 250, 3, 99], [7], [8, 1, 77]):
        np.testing.assert_allclose(artifact.prefill(step), reference.prefill(step), atol=1e-4)


def test_the_standard_layout_says_which_heads_its_caches_cannot_hold() -> None:
    recipe = load_recipe(RECIPES / "onnx_fp32_standard.yaml")
    config = dataclasses.replace(FAMILIES["llama"], head_dim=100)
    (problem,) = to_onnx.problems(config, recipe)
    assert "multiples of 8 and the model's have 100; fused fills them up" in problem
    assert to_onnx.problems(config, recipe.model_copy(update={"layout": "fused"})) == []
    assert to_onnx.problems(dataclasses.replace(config, head_dim=120), recipe) == []


def test_the_standard_layout_takes_no_cache_of_integers() -> None:
    recipe = load_recipe(RECIPES / "onnx_int4_decisions_cache8.yaml")
    assert to_onnx.problems(FAMILIES["llama"], recipe) == []
    (problem,) = to_onnx.problems(FAMILIES["llama"], recipe.model_copy(update={"layout": "standard"}))
    assert problem.startswith("quantize.cache: int8, the standard layout's callers give floats")
