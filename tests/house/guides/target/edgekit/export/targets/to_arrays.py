"""Lower a policy to one .npz: the numbers of every module under its name, and what the arithmetic needs besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from edgekit.recipes.targets.arrays import TARGET
from torch import nn

from edgekit.policy.model import PolicyModel, RMSNorm
from edgekit.policy.traits import LayerTraits, ModelConfig
from edgekit.progress import Say
from edgekit.quantize.integers import QuantizedEmbedding, QuantizedLinear
from edgekit.recipes.export_recipe import ExportRecipe

SIZES = {field.name for field in fields(ModelConfig) if field.name.startswith(("num_", "max_"))} | {
    *("vocab_size", "hidden_size", "intermediate_size", "head_dim", "ropes", "layers", "rms_norm_eps"),
    *("tie_word_embeddings", "family"),
}
"""What the simulator follows; every other field of a configuration must be a Llama's."""


def problems(config: ModelConfig, recipe: ExportRecipe) -> list[str]:  # noqa: ARG001
    """Traits that the simulator does not compute."""
    others = [field for field in fields(config) if field.name not in SIZES]
    found = [f"{field.name}: {getattr(config, field.name)} is not computed" for field in others
             if getattr(config, field.name) != field.default]  # fmt: skip
    if any(layer != LayerTraits() for layer in config.layers) or any(rope.dims for rope in config.ropes):
        found.append("layers: windows and channels without positions are not computed")
    return found


def lower(
    model: PolicyModel,
    recipe: ExportRecipe,
    folder: Path,
    *,
    stop_token_ids: Sequence[int] = (),  # noqa: ARG001
    say: Say | None = None,  # noqa: ARG001
) -> Path:
    """Write ``folder/model.npz``; returns its path."""
    config = model.config
    arrays = {
        "heads": np.array([config.num_attention_heads, config.num_key_value_heads, config.head_dim]),
        "epsilon": np.array(config.rms_norm_eps, np.float32),
        "cos": model.tables(0)[0][: recipe.context_length].numpy(),
        "sin": model.tables(0)[1][: recipe.context_length].numpy(),
    }
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear | QuantizedEmbedding):
            arrays[f"{name}.values"], arrays[f"{name}.scales"] = module.values.numpy(), module.scales.numpy()
        elif isinstance(module, nn.Linear | nn.Embedding | RMSNorm):
            arrays[name] = module.weight.detach().numpy()
    path = folder / TARGET.artifact
    with open(path, "wb") as file:
        np.savez(file, **arrays)
    return path


def oldest_runtime(model: PolicyModel, recipe: ExportRecipe) -> str:  # noqa: ARG001
    """Any NumPy that edgekit works with."""
    return "1.26"
