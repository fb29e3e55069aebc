"""ExecuTorch's own export_llm on a Hugging Face Llama folder: 8da4w, groups of 32, 8-bit embedding, its attention.

Usage: export_llm_peer.py FOLDER FILE.pte. Takes many minutes. The weights are first renamed to the layout it reads.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

CONTEXT = 1024
RENAMED = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows of q or k (heads * dim, in) from Hugging Face's half-split rotary order to pairs side by side."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape).contiguous()


def convert(folder: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict under export_llm's names."""
    weights = load_file(folder / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    head = embedding if config["tie_word_embeddings"] else weights["lm_head.weight"]
    renamed = {
        "tok_embeddings.weight": embedding,
        "norm.weight": weights["model.norm.weight"],
        "output.weight": head,
    }
    for layer in range(config["num_hidden_layers"]):
        for old, new in RENAMED.items():
            weight = weights[f"model.layers.{layer}.{old}.weight"]
            if old.endswith(("q_proj", "k_proj")):
                key = "num_attention_heads" if old.endswith("q_proj") else "num_key_value_heads"
                weight = interleaved(weight, config[key])
            renamed[f"layers.{layer}.{new}.weight"] = weight
    return renamed


def model_args(config: dict[str, Any]) -> dict[str, Any]:
    """params.json: the same model in export_llm's words."""
    return {
        "dim": config["hidden_size"],
        "hidden_dim": config["intermediate_size"],
        "n_heads": config["num_attention_heads"],
        "n_kv_heads": config["num_key_value_heads"],
        "n_layers": config["num_hidden_layers"],
        "norm_eps": config["rms_norm_eps"],
        "rope_theta": config["rope_theta"],
        "vocab_size": config["vocab_size"],
        "use_scaled_rope": False,
        "use_hf_rope": False,
        "attention_qkv_bias": False,
        "multiple_of": 256,
        "ffn_dim_multiplier": 1.0,
    }


def main(folder: Path, made: Path) -> None:
    """Convert, then run export_llm in a process of its own."""
    config = json.loads((folder / "config.json").read_text())
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        torch.save(convert(folder, config), temporary / "weights.pth")
        (temporary / "params.json").write_text(json.dumps(model_args(config)))
        options = [
            "base.model_class=smollm2",
            f"base.checkpoint={temporary / 'weights.pth'}",
            f"base.params={temporary / 'params.json'}",
            'base.metadata="{\\"get_bos_id\\":1,\\"get_eos_ids\\":[2]}"',
            "model.use_kv_cache=True",
            "model.use_sdpa_with_kv_cache=True",
            "model.dtype_override=fp32",
            f"export.max_seq_length={CONTEXT}",
            f"export.max_context_length={CONTEXT}",
            f"export.output_name={made.name}",  # in its working directory: it does not heed export.output_dir
            "quantization.qmode=8da4w",
            "quantization.group_size=32",
            'quantization.embedding_quantize="8,0"',
            "backend.xnnpack.enabled=True",
            "backend.xnnpack.extended_ops=True",
        ]
        module = "executorch.extension.llm.export.export_llm"
        subprocess.run([sys.executable, "-m", module, *options], cwd=temporary, check=True)
        shutil.move(temporary / made.name, made)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
