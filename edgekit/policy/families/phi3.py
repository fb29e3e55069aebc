"""Phi-3, Phi-3.5-mini and Phi-4-mini: fused projections, a part of each head turns, longrope, perhaps a window."""

from __future__ import annotations

from typing import Any

from edgekit.policy.families.family import FULL, SLIDING, Family, layers_with_window, read_window, window_of
from edgekit.policy.families.rope_settings import read_rope, rotary_keys
from edgekit.policy.families.settings import Settings, shown
from edgekit.policy.rope import LongRopeScaling, Rope
from edgekit.policy.traits import ModelConfig
from edgekit.record_lines import is_number


def ropes(settings: Settings, head_dim: int) -> tuple[Rope, ...]:
    keys, share = rotary_keys(settings), settings.get("partial_rotary_factor")
    if keys.get("rope_type") in ("su", "yarn"):  # what Phi-3 called it before transformers did
        keys["rope_type"] = "longrope"
    share = keys.get("partial_rotary_factor", 1.0 if share is None else share)
    if isinstance(share, bool) or not is_number(share) or not 0 < share <= 1:
        settings.fault(f"partial_rotary_factor {shown(share)} is not a share")
        share = 1.0
    return (read_rope(keys, settings, head_dim, share),)


def traits(settings: Settings) -> dict[str, Any]:
    window = read_window(settings)
    kinds = [FULL if window is None else SLIDING] * settings.size("num_hidden_layers")
    settings.only("layer_types", kinds)
    return {"layers": layers_with_window(settings, window, kinds)}


def settings(config: ModelConfig) -> dict[str, Any]:
    (rope,) = config.ropes
    written: dict[str, Any] = {
        "partial_rotary_factor": (rope.dims or config.head_dim) / config.head_dim,
        "sliding_window": window_of(config),
        "pad_token_id": None,
    }
    if isinstance(rope.scaling, LongRopeScaling):
        # transformers takes these three keys only, and infers the attention factor from the two lengths.
        factors = {"short_factor": list(rope.scaling.short), "long_factor": list(rope.scaling.long)}
        written["rope_scaling"] = {"type": "longrope", **factors}
    return written


FAMILY = Family(
    "Phi3ForCausalLM",
    traits,
    settings,
    defaults={"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096},
    ropes=ropes,
    fused={
        "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
    },
)
