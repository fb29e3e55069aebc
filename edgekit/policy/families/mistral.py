"""Mistral: every layer sees a window, of 4,096 positions where config.json does not say."""

from __future__ import annotations

from typing import Any

from edgekit.policy.families.family import FULL, SLIDING, Family, layers_with_window, read_window, window_of
from edgekit.policy.families.settings import Settings
from edgekit.policy.traits import ModelConfig


def traits(settings: Settings) -> dict[str, Any]:
    window = read_window(settings)
    kinds = [FULL if window is None else SLIDING] * settings.size("num_hidden_layers")
    settings.only("layer_types", kinds)  # transformers does not read them here
    return {"layers": layers_with_window(settings, window, kinds)}


def settings(config: ModelConfig) -> dict[str, Any]:
    return {"sliding_window": window_of(config)}


FAMILY = Family("MistralForCausalLM", traits, settings, defaults={"num_key_value_heads": 8, "sliding_window": 4096})
