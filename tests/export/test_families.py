"""Every family on every target: the artifact, fed the tokens that its quantized model is fed, chooses as that does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from family_cases import CASES, make_model

from edgekit.export.plan import fit_to_model
from edgekit.export.targets import get_lowering
from edgekit.policy.checkpoint import load_model
from edgekit.policy.families import FAMILIES
from edgekit.policy.reference import ReferenceModel
from edgekit.quantize.quantized import quantize_model
from edgekit.recipes.export_recipe import load_recipe
from edgekit.recipes.lookup import named_recipes
from edgekit.recipes.targets import TARGETS
from edgekit.simulate import open_simulator

pytest.importorskip("transformers")
CONTEXT, PROMPT, PROMPTS = 48, 19, {"fp32": 4, "int4": 20}
"""Slots, tokens of a prompt and prompts; the windows are of 7 and 9 positions."""
LEAST = {"fp32": 1.0, "int4": 0.995}
"""Share of the steps whose choice must be the same: a rare activation lies on the edge between two integers."""
LARGE_HEADS = {"hidden_size": 64, "head_dim": 16}


def agreement(name: str, target: str, precision: str, folder: Path) -> float:
    """Over all steps of the sequences, the share at which artifact and quantized model choose the same token."""
    pytest.importorskip({"onnx": "onnxruntime", "executorch": "executorch", "coreml": "coremltools"}[target])
    own_heads = "head_dim" in CASES[name][1] or "hidden_size" in CASES[name][1]
    make_model(name, folder, **({} if own_heads else LARGE_HEADS))
    recipe = load_recipe(named_recipes()[f"{target}_{precision}"])
    chunk = {"prefill_chunk": 8} if target == "coreml" else {}
    model = load_model(folder).requires_grad_(False)
    recipe, _ = fit_to_model(model, recipe.model_copy(update={"context_length": CONTEXT, **chunk}))
    quantized = quantize_model(model, recipe.quantize)
    path = get_lowering(target).lower(quantized, recipe, folder)
    artifact = open_simulator(target, path, CONTEXT, recipe.prefill_chunk)
    reference = ReferenceModel(quantized)
    same = []
    for sequence in np.random.default_rng(3).integers(0, 96, (PROMPTS[precision], CONTEXT)).tolist():
        artifact.reset()
        reference.reset()
        same.append(artifact.prefill(sequence[:PROMPT]).argmax() == reference.prefill(sequence[:PROMPT]).argmax())
        same += [artifact.decode(token).argmax() == reference.decode(token).argmax() for token in sequence[PROMPT:]]
    return float(np.mean(same))


@pytest.mark.parametrize("precision", LEAST)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_the_same_in_onnx_runtime(family: str, precision: str, tmp_path: Path) -> None:
    assert agreement(family, "onnx", precision, tmp_path) >= LEAST[precision]


@pytest.mark.parametrize(
    ("name", "target", "precision"),
    [
        ("gemma3_text", "coreml", "fp32"),
        ("olmo2", "coreml", "int4"),
        ("phi3 longrope", "coreml", "fp32"),
        ("gemma3_text", "executorch", "fp32"),
    ],
)
def test_windows_norms_and_partial_turns_are_the_same(name: str, target: str, precision: str, tmp_path: Path) -> None:
    assert agreement(name, target, precision, tmp_path) >= LEAST[precision]


@pytest.mark.slow
@pytest.mark.parametrize("precision", LEAST)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_every_trait_is_the_same_on_every_target(name: str, target: str, precision: str, tmp_path: Path) -> None:
    assert agreement(name, target, precision, tmp_path) >= LEAST[precision]
