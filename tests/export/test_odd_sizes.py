"""Models whose sizes nobody chose for a kernel: every target takes them with its 4-bit recipe, or says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.export.plan import fit_to_model, require_lowering
from edgekit.export.targets import get_lowering
from edgekit.policy.model import PolicyModel
from edgekit.policy.reference import ReferenceModel
from edgekit.policy.traits import ModelConfig
from edgekit.quantize.quantized import quantize_model
from edgekit.recipes.lookup import find_recipe
from edgekit.recipes.targets import TARGETS
from edgekit.simulate import get_simulator

CONTEXT = 64
SIZES = {
    "an odd hidden size, one KV head, heads of 20": ModelConfig(301, 65, 172, 1, 3, 1, 20, CONTEXT),
    "untied, as many KV heads, heads of 256": ModelConfig(
        97, 96, 172, 1, 2, 2, 256, CONTEXT, tie_word_embeddings=False
    ),
}
FAR = {"onnx": 0.1, "executorch": 0.1, "coreml": 0.05}
"""Integer kernels round an activation that lies between two integers otherwise; Core ML computes in float16."""


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_4_bit_recipe_takes_sizes_that_its_groups_do_not_divide(target: str, sizes: str, tmp_path: Path) -> None:
    require_lowering(target)
    config = SIZES[sizes]
    generator = torch.Generator().manual_seed(0)
    model = PolicyModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
    asked = find_recipe(f"{target}_int4", target)
    recipe, fallbacks = fit_to_model(model, asked)
    assert {fallback.length for fallback in fallbacks} >= {172}
    quantized = quantize_model(model, recipe.quantize)
    path = get_lowering(target).lower(quantized, recipe, tmp_path)
    artifact = get_simulator(target).open_artifact(path, CONTEXT, recipe.prefill_chunk)
    reference = ReferenceModel(quantized)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, 40).tolist()
    artifact.reset()
    apart = [np.abs(artifact.prefill(ids[:35]) - reference.prefill(ids[:35])).max()]
    apart += [np.abs(artifact.decode(token) - reference.decode(token)).max() for token in ids[35:]]
    assert max(apart) < FAR[target]
