"""OLMo 2: norms stand after attention and MLP, and q and k are normalized over the whole width."""

from __future__ import annotations

from typing import Any

from edgekit.policy.families.family import Family
from edgekit.policy.families.rope_settings import WRITTEN
from edgekit.policy.families.settings import Settings
from edgekit.policy.traits import ModelConfig


def traits(settings: Settings) -> dict[str, Any]:
    biased = settings.flag("attention_bias")
    return {
        "attention_bias": biased,
        "output_bias": biased,
        "qk_norm": "width",
        "input_norms": False,
        "output_norms": True,
    }


def settings(config: ModelConfig) -> dict[str, Any]:
    written: dict[str, Any] = {"attention_bias": config.output_bias, "pad_token_id": None}
    scaling = config.ropes[0].scaling
    if scaling is not None:
        # transformers takes these two keys only, the kind by its old name.
        kind, fields = WRITTEN[type(scaling)]
        written["rope_scaling"] = {"type": kind, "factor": getattr(scaling, fields["factor"])}
    return written


FAMILY = Family(
    "Olmo2ForCausalLM",
    traits,
    settings,
    defaults={"rms_norm_eps": 1e-5},
    renamed={"attention_output_norm": "post_attention_layernorm", "mlp_output_norm": "post_feedforward_layernorm"},
)
