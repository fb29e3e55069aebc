"""A tiny random model of every family and trait, as transformers makes and saves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIZES = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 5,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factor": [1.0, 2.0, 3.0, 4.0, 6.0, 9.0],
}
GRANITE = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.1,
    "residual_multiplier": 0.22,
    "logits_scaling": 3.0,
}
GRANITE4 = {
    **GRANITE,
    "rope_theta": 5000.0,
    "attention_bias": True,
    "tie_word_embeddings": True,
    "shared_intermediate_size": 96,
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
    "layer_types": ["attention", "attention"],
    "position_embedding_type": "rope",
    "mamba_n_heads": 1,
}
GEMMA = {
    "num_hidden_layers": 3,
    "head_dim": 16,
    "query_pre_attn_scalar": 24,
    "sliding_window": 7,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_theta": 5000.0}),
    "llama biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama gelu": ("Llama", {"hidden_act": "gelu"}),
    "llama gelu_new": ("Llama", {"hidden_act": "gelu_new"}),
    "llama quick_gelu": ("Llama", {"hidden_act": "quick_gelu"}),
    "llama relu": ("Llama", {"hidden_act": "relu"}),
    "llama relu2": ("Llama", {"hidden_act": "relu2"}),
    "llama linear": ("Llama", {"rope_scaling": {"rope_type": "linear", "factor": 3.0}}),
    "llama dynamic": ("Llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
    "llama dynamic beyond": (
        "Llama",
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 64},
    ),
    "llama 3.2": ("Llama", {"rope_theta": 500.0, "rope_scaling": LLAMA3, "tie_word_embeddings": True}),
    "llama heads of 24": ("Llama", {"head_dim": 24}),
    "mistral": ("Mistral", {"head_dim": 16, "sliding_window": None}),
    "mistral window": ("Mistral", {"head_dim": 16, "sliding_window": 9}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2 yarn": ("Qwen2", {"rope_scaling": YARN}),
    "qwen2 window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {"head_dim": 24}),
    "qwen3 biases window": (
        "Qwen3",
        {
            "head_dim": 16,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 9,
            "max_window_layers": 0,
        },
    ),
    "smollm3": ("SmolLM3", {"num_hidden_layers": 4}),
    "smollm3 window": (
        "SmolLM3",
        {"no_rope_layers": [0, 1], "use_sliding_window": True, "sliding_window": 9, "attention_bias": True},
    ),
    "phi3": ("Phi3", {"sliding_window": 9}),
    "phi3 longrope": (
        "Phi3",
        {
            "hidden_size": 64,
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 64,
            "rope_scaling": LONGROPE,
        },
    ),
    "gemma3_text": ("Gemma3Text", GEMMA),
    "gemma3_text linear": ("Gemma3Text", {**GEMMA, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    "olmo2": ("Olmo2", {}),
    "olmo2 linear": ("Olmo2", {"rope_scaling": {"type": "linear", "factor": 2.0}, "attention_bias": True}),
    "granite": ("Granite", GRANITE),
    "granitemoehybrid": ("GraniteMoeHybrid", GRANITE4),
}  # fmt: skip


def make_model(name: str, folder: Path, **changes: Any) -> Any:
    """A random model of the case ``name``, saved by transformers in ``folder``."""
    import transformers

    family, options = CASES[name]
    torch.manual_seed(1)
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **options, **changes})
    kind = getattr(transformers, f"{family.removesuffix('Text')}ForCausalLM")
    model = kind(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model
