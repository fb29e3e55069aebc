"""Policies lowered to Core ML, run from the saved package by the simulator, against the torch model."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.errors import EdgekitError
from edgekit.export.targets import to_coreml
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.policy.reference import ReferenceModel
from edgekit.quantize.palette import PalettizedLinear
from edgekit.quantize.quantized import quantize_model
from edgekit.recipes.export_recipe import ExportRecipe, load_recipe
from edgekit.recipes.quant_recipe import QuantRecipe
from edgekit.simulate.coreml.package import open_package
from edgekit.simulate.on_coreml import open_artifact

pytestmark = pytest.mark.skipif(importlib.util.find_spec("coremltools") is None, reason="coremltools is not installed")
RECIPES = Path(__file__).parents[2] / "export_recipes"
CONTEXT, CHUNK = 32, 8
QWEN = {"attention_bias": True, "qk_norm": "head", "tie_word_embeddings": False}


@dataclass
class Lowered:
    """A random policy, quantized and lowered."""

    model: PolicyModel
    path: Path
    recipe: ExportRecipe


def lower(
    recipe_name: str, folder: Path, *, residual: float = 1.0, rules: list[Any] | None = None, **options: bool
) -> Lowered:
    """``residual`` scales one channel of the embedding; ``rules`` replace the recipe's."""
    recipe = load_recipe(RECIPES / f"{recipe_name}.yaml")
    recipe = recipe.model_copy(update={"context_length": CONTEXT, "prefill_chunk": CHUNK})
    if rules is not None:
        recipe = recipe.model_copy(update={"quantize": QuantRecipe.model_validate({"rules": rules})})
    generator = torch.Generator().manual_seed(0)
    model = PolicyModel(ModelConfig(300, 64, 128, 2, 4, 2, 32, CONTEXT, **options)).requires_grad_(False)
    for parameter in model.parameters():
        fresh = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
        parameter.copy_(fresh if parameter.dim() > 1 else 1 + 0.1 * fresh)
    model.model.embed_tokens.weight[:, 3] *= residual
    model = quantize_model(model, recipe.quantize)
    return Lowered(model, to_coreml.lower(model, recipe, folder), recipe)


@pytest.fixture(scope="module")
def int4(tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    """Llama-like: grouped queries, embedding and head in one int4 table."""
    return lower("coreml_int4", tmp_path_factory.mktemp("int4"))


def largest_difference(lowered: Lowered) -> float:
    """Largest logit difference over a prefill of 19 tokens (two chunks and three) and five decodes."""
    artifact, reference = open_artifact(lowered.path, CONTEXT, CHUNK), ReferenceModel(lowered.model)
    ids = np.random.default_rng(0).integers(0, 300, 24).tolist()
    artifact.reset()
    pairs = [(artifact.prefill(ids[:19]), reference.prefill(ids[:19]))]
    pairs += [(artifact.decode(token), reference.decode(token)) for token in ids[19:]]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def test_int4_package_gives_the_quantized_models_logits(int4: Lowered) -> None:
    assert largest_difference(int4) < 0.02


def operations(package: Any, function: str) -> Any:
    """A function's operations, in order."""
    spec = package.program.functions[function]
    return spec.block_specializations[spec.opset].operations


@pytest.mark.parametrize("function", ["prefill", "decode"])
def test_the_last_tokens_row_alone_reaches_the_head(int4: Lowered, function: str) -> None:
    head = [op for op in operations(open_package(int4.path), function) if op.type == "linear"][-1]
    rows = [dimension.constant.size for dimension in head.outputs[0].type.tensorType.dimensions]
    assert rows == [1, 1, int4.model.config.vocab_size]


def compressed(lowered: Lowered, function: str) -> dict[str, dict[str, tuple[np.ndarray, int]]]:
    """Name -> each constant of a function's compressed weights: its numbers, and where the file holds them."""
    package = open_package(lowered.path)
    found = {}
    for op in operations(package, function):
        if op.type.startswith("constexpr_"):
            values = {name: given.arguments[0].value for name, given in op.inputs.items()}
            found[op.outputs[0].name] = {n: (package.value(v), v.blobFileValue.offset) for n, v in values.items()}
    return found


@pytest.mark.parametrize("function", ["prefill", "decode"])
def test_int4_package_holds_exactly_the_quantized_integers(int4: Lowered, function: str) -> None:
    weights = compressed(int4, function)
    layer = int4.model.model.layers[1]
    attention, mlp = layer.self_attn, layer.mlp
    expected = {
        "l1_qkv": [attention.q_proj, attention.k_proj, attention.v_proj],
        "l1_o": [attention.o_proj],
        "l1_gate_up": [mlp.gate_proj],
        "l1_gate_up_1": [mlp.up_proj],  # groups of 64: a matrix of its own
        "l1_down": [mlp.down_proj],
    }
    for name, linears in expected.items():
        data, scale = weights[name]["data"][0], weights[name]["scale"][0]
        np.testing.assert_array_equal(data, np.concatenate([linear.values for linear in linears]))
        np.testing.assert_array_equal(scale.astype(np.float32), np.concatenate([linear.scales for linear in linears]))
    assert len(weights) == 2 * len(expected) + 1


def test_functions_share_every_weight_and_embedding_shares_the_heads_table(int4: Lowered) -> None:
    prefill, decode = compressed(int4, "prefill"), compressed(int4, "decode")
    assert "embedding" in decode
    assert "head" not in decode  # the head multiplies the very table that is gathered
    for name, constants in decode.items():
        assert {n: place for n, (_, place) in constants.items()} == {n: p for n, (_, p) in prefill[name].items()}
    modules = [m for name, m in int4.model.named_modules() if hasattr(m, "bits") and name != "lm_head"]
    once = sum(m.values.numel() / 2 + m.scales.numel() * 2 for m in modules)
    size = (int4.path / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size
    assert once < size < 1.15 * once + 128 * 60  # norms, rope, and a header for each of some 60 constants


def test_equal_inputs_give_equal_bytes(int4: Lowered, tmp_path: Path) -> None:
    again = to_coreml.lower(int4.model, int4.recipe, tmp_path)
    files = sorted(path.relative_to(int4.path) for path in int4.path.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for file in files:
        assert (int4.path / file).read_bytes() == (again / file).read_bytes(), file


LOWER_AND_HASH = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_coreml_target import lower_and_hash
print(lower_and_hash(Path(sys.argv[2])))
"""


def lower_and_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for recipe, options in (("coreml_int4", QWEN), ("coreml_palette4", {}), ("coreml_fp32", {})):
        (folder / recipe).mkdir(parents=True)
        package = lower(recipe, folder / recipe, **options).path
        for path in sorted(package.rglob("*")):
            digest.update(str(path.relative_to(package)).encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes_in_every_process_whatever_its_hash_seed(tmp_path: Path) -> None:
    child = tmp_path / "child"
    command = [sys.executable, "-W", "ignore", "-c", LOWER_AND_HASH, str(Path(__file__).parent), str(child)]
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = {**os.environ, "PYTHONHASHSEED": other}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert output.split()[-1] == lower_and_hash(tmp_path / "here")


def test_palettized_package_gives_its_models_logits_from_its_own_palettes(tmp_path: Path) -> None:
    palette = lower("coreml_palette4", tmp_path)
    assert largest_difference(palette) < 0.02
    weights = compressed(palette, "decode")
    down = palette.model.model.layers[0].mlp.down_proj
    assert isinstance(down, PalettizedLinear)
    np.testing.assert_array_equal(weights["l0_down"]["indices"][0], down.indices)
    np.testing.assert_array_equal(weights["l0_down"]["lut"][0].reshape(down.table.shape), down.table.numpy())


def test_a_large_residual_does_not_overflow_half_precision(tmp_path: Path) -> None:
    """Real models carry residuals of 25,000 at the first token; squared in float16 they were infinite."""
    large = lower("coreml_fp16", tmp_path, residual=20_000.0, tie_word_embeddings=False)
    assert largest_difference(large) < 0.02


def test_chunked_prefill_equals_token_by_token(int4: Lowered) -> None:
    chunked, single = open_artifact(int4.path, CONTEXT, CHUNK), open_artifact(int4.path, CONTEXT, CHUNK)
    ids = np.random.default_rng(1).integers(0, 300, CONTEXT).tolist()
    for length in (1, 3, CHUNK, CHUNK + 1, 3 * CHUNK - 1, CONTEXT - 2):  # whole chunks, padded ones, and the last slots
        chunked.reset()
        single.reset()
        pairs = [(chunked.prefill(ids[:length]), [single.decode(token) for token in ids[:length]][-1])]
        pairs += [(chunked.decode(token), single.decode(token)) for token in ids[length : length + 2]]
        for ours, truth in pairs:
            np.testing.assert_allclose(ours, truth, atol=0.02)


def test_a_flipped_bit_of_a_weight_changes_the_logits(int4: Lowered, tmp_path: Path) -> None:
    damaged = tmp_path / "model.mlpackage"
    shutil.copytree(int4.path, damaged)
    weights = damaged / "Data/com.apple.CoreML/weights/weight.bin"
    values = int4.model.lm_head.values.numpy().reshape(-1)
    packed = ((values[0::2] & 15) | (values[1::2] << 4)).astype(np.uint8).tobytes()
    data = bytearray(weights.read_bytes())
    assert data.count(packed) == 1
    data[data.index(packed)] ^= 64
    weights.write_bytes(data)
    ids = [1, 2, 3]
    whole = open_artifact(int4.path, CONTEXT, CHUNK).prefill(ids)
    assert np.flatnonzero(open_artifact(damaged, CONTEXT, CHUNK).prefill(ids) != whole).tolist() == [0]
    weights.write_bytes(data[:-5000])
    with pytest.raises(EdgekitError, match="bad weights"):
        open_artifact(damaged, CONTEXT, CHUNK)


def test_an_artifact_that_does_not_fit_its_bundle_is_refused(int4: Lowered) -> None:
    with pytest.raises(EdgekitError, match="does not fit its bundle"):
        open_artifact(int4.path, CONTEXT * 2, CHUNK)
    artifact = open_artifact(int4.path, CONTEXT, CHUNK)
    artifact.prefill(list(range(CONTEXT)))
    with pytest.raises(EdgekitError, match="context full"):
        artifact.decode(0)


def test_the_simulator_needs_neither_torch_nor_coremltools_imported(int4: Lowered) -> None:
    code = (
        "import sys; from pathlib import Path; from edgekit.simulate.on_coreml import open_artifact;"
        f"m = open_artifact(Path({str(int4.path)!r}), {CONTEXT}, {CHUNK}); m.prefill([1, 2]);"
        "assert m.runtime.startswith('Core ML simulator (edgekit '), m.runtime;"
        "assert not {'torch', 'coremltools'} & set(sys.modules)"
    )
    if sys.platform != "darwin":
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ.copy())


def test_qwen_like_int8_policy(tmp_path: Path) -> None:
    """Attention bias, q/k norms and a head of its own."""
    assert largest_difference(lower("coreml_int8", tmp_path, **QWEN)) < 0.02


def test_matrices_of_different_kinds_stand_side_by_side(tmp_path: Path) -> None:
    """q, k and v with bits of their own, as a search for a recipe may ask."""
    rules = [
        {"match": "*.k_proj", "bits": 8},
        {"match": "*.v_proj", "bits": 16},
        {"match": "*.gate_proj", "bits": 4, "group_size": 16, "palette": True},
        {"match": "*", "bits": 4, "group_size": 32},
    ]
    assert largest_difference(lower("coreml_int4", tmp_path, rules=rules, **QWEN)) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "tolerance"), [("coreml_fp16", 0.02), ("coreml_fp32", 0.002)])
@pytest.mark.parametrize("options", [{}, QWEN])
def test_float_policies(recipe: str, tolerance: float, options: dict[str, bool], tmp_path: Path) -> None:
    assert largest_difference(lower(recipe, tmp_path, **options)) < tolerance


@pytest.mark.slow
def test_a_model_of_smollm2s_size_fits_in_76_megabytes(tmp_path: Path) -> None:
    recipe = load_recipe(RECIPES / "coreml_int4.yaml")
    model = PolicyModel(ModelConfig(49_152, 576, 1_536, 30, 9, 3, 64, 1_024)).requires_grad_(False)
    package = to_coreml.lower(quantize_model(model, recipe.quantize), recipe, tmp_path)
    assert sum(file.stat().st_size for file in package.rglob("*") if file.is_file()) <= 76_000_000
