"""SmolLM3: every fourth layer has no rotary positions."""

from __future__ import annotations

from typing import Any

from edgekit.policy.families.family import (
    FULL,
    SLIDING,
    Family,
    layer_types,
    layers_with_window,
    read_window,
    window_of,
)
from edgekit.policy.families.settings import Settings
from edgekit.policy.traits import ModelConfig


def traits(settings: Settings) -> dict[str, Any]:
    count, interval = settings.size("num_hidden_layers"), settings.size("no_rope_layer_interval")
    turns = settings.get("no_rope_layers")  # 1 where a layer has rotary positions, whatever the name says
    if turns is None:
        turns = [int((layer + 1) % interval != 0) for layer in range(count)]
    if not isinstance(turns, list) or len(turns) != count or any(turn not in (0, 1) for turn in turns):
        settings.fault(f"no_rope_layers are not {count} of 0 and 1")
        turns = [1] * count
    window, slides = read_window(settings), settings.flag("use_sliding_window")
    settings.get("max_window_layers")  # in the published files, and read by nobody
    window = window if slides else None
    kinds = [SLIDING if window is not None and not turn else FULL for turn in turns]
    biased = settings.flag("attention_bias")
    return {
        "layers": layers_with_window(settings, window, kinds, tuple(0 if turn else None for turn in turns)),
        "attention_bias": biased,
        "output_bias": biased,
        "mlp_bias": settings.flag("mlp_bias"),
    }


def settings(config: ModelConfig) -> dict[str, Any]:
    window = window_of(config)
    return {
        "no_rope_layers": [int(layer.rope is not None) for layer in config.layers],
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": layer_types(config),
        "attention_bias": config.output_bias,
        "mlp_bias": config.mlp_bias,
        "pad_token_id": None,
    }


FAMILY = Family(
    "SmolLM3ForCausalLM",
    traits,
    settings,
    defaults={
        "num_key_value_heads": 4,
        "rope_theta": 2_000_000.0,
        "tie_word_embeddings": True,
        "no_rope_layer_interval": 4,
    },
)
