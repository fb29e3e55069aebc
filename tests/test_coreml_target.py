"""Policies lowered to Core ML, run from the saved package by the simulator, against the torch model."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.errors import EdgekitError
from edgekit.export.recipe import ExportRecipe, load_recipe
from edgekit.export.targets import to_coreml
from edgekit.policy.model import ModelConfig, PolicyModel
from edgekit.policy.reference import ReferenceModel
from edgekit.quantize.quantized import QuantizedLinear, quantize_model
from edgekit.simulate.coreml.package import open_package
from edgekit.simulate.on_coreml import open_artifact

pytestmark = pytest.mark.skipif(importlib.util.find_spec("coremltools") is None, reason="coremltools is not installed")
RECIPES = Path(__file__).parents[1] / "export_recipes"
CONTEXT, CHUNK = 32, 8
QWEN = {"attention_bias": True, "qk_norm": True, "tie_word_embeddings": False}


@dataclass
class Lowered:
    """A random policy, quantized and lowered."""

    model: PolicyModel
    path: Path
    recipe: ExportRecipe


def lower(recipe_name: str, folder: Path, **options: bool) -> Lowered:
    recipe = load_recipe(RECIPES / f"{recipe_name}.yaml")
    recipe = recipe.model_copy(update={"context_length": CONTEXT, "prefill_chunk": CHUNK})
    generator = torch.Generator().manual_seed(0)
    model = PolicyModel(ModelConfig(300, 64, 128, 2, 4, 2, 32, CONTEXT, **options)).requires_grad_(False)
    for parameter in model.parameters():
        fresh = torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5
        parameter.copy_(fresh if parameter.dim() > 1 else 1 + 0.1 * fresh)
    model = quantize_model(model, recipe.quantize)
    return Lowered(model, to_coreml.lower(model, recipe, folder), recipe)


@pytest.fixture(scope="module")
def int4(tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    """Llama-like: grouped queries, tied embeddings; int4 layers, int8 head."""
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


def test_int4_package_holds_exactly_the_quantized_integers(int4: Lowered) -> None:
    expected = [m for m in int4.model.modules() if isinstance(m, QuantizedLinear)]
    package = open_package(int4.path)
    for function in package.functions:
        spec = package.program.functions[function]
        found = []
        for op in spec.block_specializations[spec.opset].operations:
            if op.type == "constexpr_blockwise_shift_scale":
                data, scale = (package.value(op.inputs[name].arguments[0].value) for name in ("data", "scale"))
                code = op.inputs["data"].arguments[0].value.type.tensorType.dataType
                found.append((data, scale, 4 if code == 25 else 8))
        assert len(found) == len(expected) == 15
        for (data, scale, bits), linear in zip(found, expected, strict=True):
            assert bits == linear.bits
            np.testing.assert_array_equal(data, linear.values.numpy())
            np.testing.assert_array_equal(scale.astype(np.float32), linear.scales.numpy())


def test_prefill_and_decode_share_the_weights_file(int4: Lowered) -> None:
    weights = int4.path / "Data/com.apple.CoreML/weights/weight.bin"
    once = sum(m.values.numel() * m.bits / 8 + m.scales.numel() * 2 for m in int4.model.modules() if hasattr(m, "bits"))
    once += 2 * int4.model.model.embed_tokens.weight.numel()
    assert weights.stat().st_size < 1.4 * once


def test_chunked_prefill_equals_token_by_token(int4: Lowered) -> None:
    chunked, single = open_artifact(int4.path, CONTEXT, CHUNK), open_artifact(int4.path, CONTEXT, CHUNK)
    ids = np.random.default_rng(1).integers(0, 300, 16).tolist()
    first = chunked.prefill(ids)
    for token in ids:
        last = single.decode(token)
    np.testing.assert_allclose(first, last, atol=0.02)
    chunked.reset()
    np.testing.assert_array_equal(chunked.prefill(ids), first)  # nothing of the earlier prompt is left


def test_a_flipped_bit_of_a_weight_changes_the_logits(int4: Lowered, tmp_path: Path) -> None:
    damaged = tmp_path / "model.mlpackage"
    shutil.copytree(int4.path, damaged)
    weights = damaged / "Data/com.apple.CoreML/weights/weight.bin"
    packed = int4.model.lm_head.values.numpy().tobytes()
    data = bytearray(weights.read_bytes())
    assert data.count(packed) == 1
    data[data.index(packed)] ^= 64
    weights.write_bytes(data)
    ids = [1, 2, 3]
    whole = open_artifact(int4.path, CONTEXT, CHUNK).prefill(ids)
    assert np.abs(open_artifact(damaged, CONTEXT, CHUNK).prefill(ids) - whole).max() > 0.02
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


def test_recipes_core_ml_cannot_run_are_refused_before_work(int4: Lowered, tmp_path: Path) -> None:
    int8_inputs = int4.recipe.quantize.model_copy(update={"activations": "int8"})
    with pytest.raises(EdgekitError, match="Use activations: float"):
        to_coreml.lower(int4.model, int4.recipe.model_copy(update={"quantize": int8_inputs}), tmp_path)
    with pytest.raises(EdgekitError, match="Lower prefill_chunk"):
        to_coreml.lower(int4.model, int4.recipe.model_copy(update={"prefill_chunk": CONTEXT}), tmp_path)
    assert not list(tmp_path.iterdir())


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


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "tolerance"), [("coreml_fp16", 0.02), ("coreml_fp32", 0.002)])
@pytest.mark.parametrize("options", [{}, QWEN])
def test_float_policies(recipe: str, tolerance: float, options: dict[str, bool], tmp_path: Path) -> None:
    assert largest_difference(lower(recipe, tmp_path, **options)) < tolerance
