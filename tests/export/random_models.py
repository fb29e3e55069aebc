"""Small models for the tests of targets."""

from __future__ import annotations

import torch

from edgekit.policy.model import ModelConfig, PolicyModel


def random_model(config: ModelConfig) -> PolicyModel:
    """A model whose every parameter differs from its neighbours, norms and biases included."""
    model = PolicyModel(config)
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        spread = 0.2 if parameter.dim() == 1 else parameter.shape[1] ** -0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread + (parameter.dim() == 1)
    return model
