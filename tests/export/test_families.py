"""Every family on every target: the artifact, fed the tokens that its quantized model is fed, chooses as that does.

A step counts where the quantized model has a choice: where its two best logits lie further apart than rounding moves
them. How far that is it says itself, as its twin with embedding and norms scaled by a rounding error: the same function
otherwise. In models this small one activation on the edge between two integers moves every later logit by a
twentieth of their spread, and OLMo 2's first layer reads rows of its table, whole multiples of a scale, which lie on
such edges.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from family_cases import CASES, make_model

from edgekit.export.plan import fit_to_model
from edgekit.export.targets import get_lowering
from edgekit.policy.checkpoint import load_model
from edgekit.policy.families import FAMILIES
from edgekit.policy.model import PolicyModel, RMSNorm
from edgekit.policy.reference import ReferenceModel
from edgekit.quantize.quantized import quantize_model
from edgekit.recipes.export_recipe import load_recipe
from edgekit.recipes.lookup import named_recipes
from edgekit.recipes.targets import TARGETS
from edgekit.simulate import get_simulator
from edgekit.verify.forced import feed

pytest.importorskip("transformers")
CONTEXT, PROMPT, PROMPTS = 48, 19, {"fp32": 4, "int4": 20}
"""Slots, tokens of a prompt and prompts; the windows are of 7 and 9 positions."""
LEAST = {"fp32": 1.0, "int4": 0.995}
"""Share of the steps whose choice must be the same: a rare activation lies on the edge between two integers."""
ROUNDING = {"onnx": 1e-6, "executorch": 1e-6, "coreml": 2.0**-11}
"""Relative error of what a target keeps between its operations; Core ML's cache has the 11 bits of a float16."""
CLEAR = 0.5
"""Least share of the steps that must count."""
LARGE_HEADS = {"hidden_size": 64, "head_dim": 16}
OTHER_ANGLES = {
    "llama linear", "llama dynamic", "llama dynamic beyond", "qwen2 yarn", "phi3 longrope", "gemma3_text linear",
}  # fmt: skip
"""Cases that differ from another in the numbers of their rotary tables alone, which no recipe rounds."""
EVERY = [
    (name, target, precision)
    for name in CASES
    for target in TARGETS
    for precision in LEAST
    if precision == "fp32" or name not in OTHER_ANGLES
]


def rounding_noise(model: PolicyModel, sequences: torch.Tensor, error: float) -> np.ndarray:
    """How far a relative rounding ``error`` may move two logits against each other, (N, T), in ``sequences`` (N, T)."""
    twin = copy.deepcopy(model)
    twin.config = replace(model.config, embedding_scale=model.config.embedding_scale * (1 + error))
    with torch.inference_mode():
        for module in twin.modules():
            if isinstance(module, RMSNorm):
                module.weight.mul_(1 + error)
        return 2 * (model(sequences) - twin(sequences)).abs().amax(-1).numpy()


def agreement(name: str, target: str, precision: str, folder: Path) -> float:
    """Over the steps of the sequences that count, the share at which artifact and quantized model choose one token."""
    pytest.importorskip({"onnx": "onnxruntime", "executorch": "executorch", "coreml": "coremltools"}[target])
    own_heads = "head_dim" in CASES[name][1] or "hidden_size" in CASES[name][1]
    make_model(name, folder, **({} if own_heads else LARGE_HEADS))
    recipe = load_recipe(named_recipes()[f"{target}_{precision}"])
    chunk = {"prefill_chunk": 8} if target == "coreml" else {}
    model = load_model(folder).requires_grad_(False)
    recipe, _ = fit_to_model(model, recipe.model_copy(update={"context_length": CONTEXT, **chunk}))
    quantized = quantize_model(model, recipe.quantize)
    path = get_lowering(target).lower(quantized, recipe, folder)
    artifact = get_simulator(target).open_artifact(path, CONTEXT, recipe.prefill_chunk)
    reference = ReferenceModel(quantized)
    sequences = np.random.default_rng(3).integers(0, 96, (PROMPTS[precision], CONTEXT))
    noise = rounding_noise(quantized, torch.tensor(sequences), ROUNDING[target])[:, PROMPT - 1 :]
    same, steps = [], 0
    for sequence, edge in zip(sequences.tolist(), noise, strict=True):
        prompt, tokens = sequence[:PROMPT], sequence[PROMPT:]
        rows = zip(feed(artifact, prompt, tokens), feed(reference, prompt, tokens), edge, strict=False)
        for ours, theirs, least_margin in rows:
            second, first = np.sort(theirs)[-2:]
            steps += 1
            if first - second > least_margin:
                same.append(ours.argmax() == theirs.argmax())
    assert len(same) >= CLEAR * steps
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
@pytest.mark.parametrize(("name", "target", "precision"), EVERY)
def test_every_trait_is_the_same_on_every_target(name: str, target: str, precision: str, tmp_path: Path) -> None:
    assert agreement(name, target, precision, tmp_path) >= LEAST[precision]
