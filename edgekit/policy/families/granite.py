"""Granite 3: a Llama with four multipliers."""

from __future__ import annotations

from typing import Any

from edgekit.policy.families import llama
from edgekit.policy.families.family import Family
from edgekit.policy.families.settings import Settings
from edgekit.policy.traits import ModelConfig


def traits(settings: Settings) -> dict[str, Any]:
    return {
        **llama.traits(settings),
        "embedding_scale": settings.number("embedding_multiplier"),
        "attention_scale": settings.number("attention_multiplier"),
        "residual_scale": settings.number("residual_multiplier"),
        "logit_divisor": settings.number("logits_scaling"),
    }


def settings(config: ModelConfig) -> dict[str, Any]:
    return {
        **llama.settings(config),
        "embedding_multiplier": config.embedding_scale,
        "attention_multiplier": config.attention_scale,
        "residual_multiplier": config.residual_scale,
        "logits_scaling": config.logit_divisor,
    }


FAMILY = Family(
    "GraniteForCausalLM",
    traits,
    settings,
    defaults=dict.fromkeys(
        ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"), 1.0
    ),
)
