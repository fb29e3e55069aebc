"""Gemma 3, text only: four norms a layer, scaled embeddings; five of six layers see a window, with a rope apart."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from edgekit.policy.families.family import FULL, SLIDING, Family, layers_with_window, read_window, window_of
from edgekit.policy.families.rope_settings import read_rope, rotary_keys
from edgekit.policy.families.settings import Settings, shown
from edgekit.policy.rope import Rope
from edgekit.policy.traits import ModelConfig


def ropes(settings: Settings, head_dim: int) -> tuple[Rope, ...]:
    near = {"rope_theta": settings.get("rope_local_base_freq")}
    parameters, stated = settings.get("rope_parameters"), settings.data.get("rope_local_base_freq")
    if isinstance(parameters, dict) and SLIDING in parameters:
        near = rotary_keys(settings, SLIDING)
        if stated is not None and near.get("rope_theta", stated) != stated:
            settings.fault(f"rope_local_base_freq {shown(stated)} is not what stands beside it")
    return (read_rope(rotary_keys(settings, FULL), settings, head_dim), read_rope(near, settings, head_dim))


def traits(settings: Settings) -> dict[str, Any]:
    count = settings.size("num_hidden_layers")
    window, period = read_window(settings), settings.size("sliding_window_pattern")
    settings.get("_sliding_window_pattern")  # said again by layer_types
    kinds = [SLIDING if (layer + 1) % period else FULL for layer in range(count)]
    layers = layers_with_window(settings, window, kinds)
    biased = settings.flag("attention_bias")
    for cap in ("attn_logit_softcapping", "final_logit_softcapping"):
        settings.only(cap)
    return {
        "layers": tuple(layer if layer.window is None else replace(layer, rope=1) for layer in layers),
        "attention_bias": biased,
        "output_bias": biased,
        "qk_norm": "head",
        "output_norms": True,
        "embedding_scale": math.sqrt(settings.size("hidden_size")),
        "attention_scale": settings.number("query_pre_attn_scalar") ** -0.5,
    }


def settings(config: ModelConfig) -> dict[str, Any]:
    window = window_of(config)
    scalar = round((config.attention_scale or config.head_dim**-0.5) ** -2, 9)
    return {
        "rope_local_base_freq": config.ropes[1].theta,
        "sliding_window": config.max_position_embeddings if window is None else window,
        "layer_types": [FULL if layer.rope == 0 else SLIDING for layer in config.layers],
        "query_pre_attn_scalar": int(scalar) if scalar.is_integer() else scalar,  # transformers 5 takes no 24.0
        "attention_bias": config.output_bias,
        "pad_token_id": None,
    }


FAMILY = Family(
    "Gemma3ForCausalLM",
    traits,
    settings,
    defaults={
        "num_key_value_heads": 4,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
        "query_pre_attn_scalar": 256,
        "tie_word_embeddings": True,
    },
    ropes=ropes,
    activation_key="hidden_activation",
    renamed={
        "attention_output_norm": "post_attention_layernorm",
        "post_attention_layernorm": "pre_feedforward_layernorm",
        "mlp_output_norm": "post_feedforward_layernorm",
    },
    norm_offset=1.0,
)
