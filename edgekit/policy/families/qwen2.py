"""Qwen2 and Qwen2.5: biases on q, k and v; where windows are switched on, the layers from one on have them."""

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
from edgekit.policy.traits import LayerTraits, ModelConfig

WINDOW_DEFAULTS = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}


def windowed_layers(settings: Settings) -> tuple[LayerTraits, ...]:
    """The layers from max_window_layers on see sliding_window positions, unless layer_types says otherwise."""
    window, slides = read_window(settings), settings.flag("use_sliding_window")
    window = window if slides else None
    first = settings.size("max_window_layers", WINDOW_DEFAULTS["max_window_layers"], least=0)
    count = settings.size("num_hidden_layers")
    return layers_with_window(
        settings, window, [SLIDING if window is not None and layer >= first else FULL for layer in range(count)]
    )


def window_settings(config: ModelConfig) -> dict[str, Any]:
    """The keys of windows, left out where there are none."""
    window = window_of(config)
    if window is None:
        return {}
    return {"use_sliding_window": True, "sliding_window": window, "layer_types": layer_types(config)}


def traits(settings: Settings) -> dict[str, Any]:
    return {"attention_bias": True, "layers": windowed_layers(settings)}


FAMILY = Family("Qwen2ForCausalLM", traits, window_settings, defaults={"num_key_value_heads": 32, **WINDOW_DEFAULTS})
