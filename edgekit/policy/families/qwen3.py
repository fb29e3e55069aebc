"""Qwen3: each head of q and k is normalized; windows as in Qwen2."""

from __future__ import annotations

from typing import Any

from edgekit.policy.families.family import Family
from edgekit.policy.families.qwen2 import WINDOW_DEFAULTS, window_settings, windowed_layers
from edgekit.policy.families.settings import Settings
from edgekit.policy.traits import ModelConfig


def traits(settings: Settings) -> dict[str, Any]:
    biased = settings.flag("attention_bias")
    layers = windowed_layers(settings)
    return {"attention_bias": biased, "output_bias": biased, "qk_norm": "head", "layers": layers}


def settings(config: ModelConfig) -> dict[str, Any]:
    return {**({"attention_bias": True} if config.output_bias else {}), **window_settings(config)}


FAMILY = Family(
    "Qwen3ForCausalLM",
    traits,
    settings,
    defaults={"num_key_value_heads": 32, "head_dim": 128, **WINDOW_DEFAULTS},
)
