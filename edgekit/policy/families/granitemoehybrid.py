"""Granite 4.0's dense models (350m, 1b, micro): Granite 3 in the layout of their hybrid kin, no mamba, no experts."""

from __future__ import annotations

from typing import Any

from edgekit.policy.families import granite
from edgekit.policy.families.family import Family
from edgekit.policy.families.settings import Settings
from edgekit.policy.traits import ModelConfig

ABSENT = (
    # of mamba layers
    "mamba_n_heads", "mamba_n_groups", "mamba_d_state", "mamba_d_head", "mamba_d_conv", "mamba_expand",
    "mamba_chunk_size", "mamba_conv_bias", "mamba_proj_bias", "time_step_limit",
    # of experts; theirs is the common name of the MLP's width
    "intermediate_size", "num_experts_per_tok", "output_router_logits", "router_aux_loss_coef",
    # of weights before their training
    "init_method",
)  # fmt: skip
"""Keys that say something of what these models have not."""
ATTENTION = ("attention", "full_attention")  # transformers 4's name, and 5's


def traits(settings: Settings) -> dict[str, Any]:
    for key in ABSENT:
        settings.get(key)
    types = settings.get("layer_types") or ["mamba"] * settings.size("num_hidden_layers")
    if not isinstance(types, list) or len(types) != settings.size("num_hidden_layers"):
        settings.fault("layer_types are not one for each layer")
    elif others := [kind for kind in types if kind not in ATTENTION]:
        settings.fault(f"{len(others)} of {len(types)} layers are {others[0]}: they carry a state, not a KV cache")
    if settings.size("num_local_experts", least=0):
        settings.fault("num_local_experts is not 0: its layers choose among experts, which no target here runs")
    settings.choice("position_embedding_type", {"rope": "rope"})
    settings.only("normalization_function", "rmsnorm")
    settings.only("head_dim", settings.size("hidden_size") // settings.size("num_attention_heads"))
    read = {**granite.traits(settings), "intermediate_size": settings.size("shared_intermediate_size")}
    settings.only("mlp_bias", False)
    return read


def settings(config: ModelConfig) -> dict[str, Any]:
    return {
        **granite.settings(config),
        "shared_intermediate_size": config.intermediate_size,
        "layer_types": [ATTENTION[0]] * config.num_hidden_layers,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "position_embedding_type": "rope",
        "mamba_n_heads": 1,  # transformers wants it to divide a width, though there is no such layer
    }


FAMILY = Family(
    "GraniteMoeHybridForCausalLM",
    traits,
    settings,
    defaults={**granite.FAMILY.defaults, "num_local_experts": 8, "shared_intermediate_size": 1024},
    renamed={"mlp.down_proj": "shared_mlp.output_linear"},
    fused={"shared_mlp.input_linear": ("mlp.gate_proj", "mlp.up_proj")},
)
