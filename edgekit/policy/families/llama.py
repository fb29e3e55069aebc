"""Llama, SmolLM and SmolLM2, TinyLlama, and whatever else calls itself a llama."""

from __future__ import annotations

from typing import Any

from edgekit.policy.families.family import Family
from edgekit.policy.families.settings import Settings
from edgekit.policy.traits import ModelConfig


def traits(settings: Settings) -> dict[str, Any]:
    biased = settings.flag("attention_bias")
    return {"attention_bias": biased, "output_bias": biased, "mlp_bias": settings.flag("mlp_bias")}


def settings(config: ModelConfig) -> dict[str, Any]:
    biases = {"attention_bias": config.output_bias, "mlp_bias": config.mlp_bias}
    return {key: value for key, value in biases.items() if value}


FAMILY = Family("LlamaForCausalLM", traits, settings)
