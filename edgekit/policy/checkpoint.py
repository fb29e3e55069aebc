"""A policy folder: a plain Hugging Face model directory plus routing.json, read and written here.

config.json, model.safetensors, tokenizer.json, tokenizer_config.json load with
``transformers.AutoModelForCausalLM.from_pretrained``; no transformers import is needed to read them. A policy trained
on a recipe's grid has grid.json too, and rounds activations as that recipe's target does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from tokenizers import Tokenizer

from edgekit.atomic_write import write_file
from edgekit.errors import BundleError
from edgekit.policy.activations import round_inputs
from edgekit.policy.grid import Grid, load_grid
from edgekit.policy.model import ModelConfig, PolicyModel, RopeScaling, rope_table
from edgekit.routing.prompt_tokens import PromptTokenizer, read_tokenizer
from edgekit.routing.spec import RoutingSpec, load_routing
from edgekit.routing.vocabulary import Vocabulary, load_vocabulary

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
LLAMA3_ROPE = {
    "factor": "factor",
    "low_frequency_factor": "low_freq_factor",
    "high_frequency_factor": "high_freq_factor",
    "original_length": "original_max_position_embeddings",
}


@dataclass
class Policy:
    """A model with its tokenizer and its routing data; ``grid`` is what the model's weights lie on, None for floats."""

    model: PolicyModel
    tokenizer: Tokenizer
    routing: RoutingSpec
    vocabulary: Vocabulary
    grid: Grid | None = None

    def encode(self, prompt: str) -> list[int]:
        """Token ids of the rendered ``prompt``, ready for prefill."""
        return self.prompt_tokenizer.encode(self.routing.parts(prompt), self.routing.marks)

    @cached_property
    def prompt_tokenizer(self) -> PromptTokenizer:
        """``tokenizer`` for prompts, in which user text is data."""
        return PromptTokenizer(self.tokenizer)


def read_config(path: Path) -> ModelConfig:
    """Read a Hugging Face config.json. Raises :class:`BundleError` for an unsupported architecture."""
    data = read_json(path)
    family = data.get("model_type")
    if family not in FAMILIES:
        raise BundleError(f"unsupported model: {family} in {path}. edgekit reads {', '.join(FAMILIES)}. Use one.")
    missing = [name for name in REQUIRED if name not in data]
    if missing:
        raise BundleError(f"incomplete config: {path}. It lacks {', '.join(missing)}. Check the folder.")
    heads = data["num_attention_heads"]
    # transformers 5 keeps every rotary setting in one place.
    rope = {**(data.get("rope_scaling") or {}), **(data.get("rope_parameters") or {})}
    return ModelConfig(
        vocab_size=data["vocab_size"],
        hidden_size=data["hidden_size"],
        intermediate_size=data["intermediate_size"],
        num_hidden_layers=data["num_hidden_layers"],
        num_attention_heads=heads,
        num_key_value_heads=data.get("num_key_value_heads") or heads,
        head_dim=data.get("head_dim") or data["hidden_size"] // heads,
        max_position_embeddings=min(data["max_position_embeddings"], _window(data)),
        rope_theta=rope.get("rope_theta", data.get("rope_theta", 10_000.0)),
        rms_norm_eps=data.get("rms_norm_eps", 1e-6),
        tie_word_embeddings=data.get("tie_word_embeddings", False),
        attention_bias=family == "qwen2" or data.get("attention_bias", False),
        qk_norm=family == "qwen3",
        rope_scaling=_rope_scaling(rope, path),
    )


def _window(data: dict[str, Any]) -> int:
    """How far attention reaches; within it a sliding window changes nothing."""
    slides = data.get("use_sliding_window", data["model_type"] == "mistral")
    return (slides and data.get("sliding_window")) or data["max_position_embeddings"]


def _rope_scaling(rope: dict[str, Any], path: Path) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise BundleError(f"unsupported rope scaling: {kind} in {path}. edgekit reads llama3's. Use another model.")
    return RopeScaling(**{field: rope[key] for field, key in LLAMA3_ROPE.items()})


def huggingface_config(config: ModelConfig, eos_token_id: int) -> dict[str, Any]:
    """The config.json of ``config`` as an ordinary checkpoint."""
    family = "qwen3" if config.qk_norm else "qwen2" if config.attention_bias else "llama"
    names = (*REQUIRED, "num_key_value_heads", "head_dim", "rope_theta", "rms_norm_eps")
    scaling = config.rope_scaling
    rope = scaling and {"rope_type": "llama3", **{key: getattr(scaling, field) for field, key in LLAMA3_ROPE.items()}}
    return {
        "architectures": [{"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[family] + "ForCausalLM"],
        "model_type": family,
        **{name: getattr(config, name) for name in names},
        **({"rope_scaling": rope} if rope else {}),
        "tie_word_embeddings": config.tie_word_embeddings,
        "hidden_act": "silu",
        "bos_token_id": None,
        "eos_token_id": eos_token_id,
        "torch_dtype": "float32",
    }


def state_tensors(model: PolicyModel) -> dict[str, torch.Tensor]:
    """The model's weights under Hugging Face names; a tied head is stored once."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight")
    return tensors


def save_policy(policy: Policy, folder: Path) -> None:
    """Write the policy folder, each file atomically."""
    eos = policy.routing.stop_token_ids[0]
    files = {
        "config.json": json.dumps(huggingface_config(policy.model.config, eos), indent=2) + "\n",
        "generation_config.json": json.dumps({"eos_token_id": eos}, indent=2) + "\n",
        "model.safetensors": save(state_tensors(policy.model), metadata={"format": "pt"}),
        "tokenizer.json": policy.tokenizer.to_str(pretty=True) + "\n",
        "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n",
    }
    for name, data in files.items():
        write_file(folder / name, data)
    if policy.grid is not None:
        policy.grid.save(folder)
    policy.routing.save(folder / "routing.json")


def load_policy(folder: Path) -> Policy:
    """Read a policy folder. Raises :class:`BundleError` naming the file at fault."""
    model = load_model(folder)
    routing = load_routing(folder / "routing.json")
    grid = load_grid(folder)
    if grid is not None:
        round_inputs(model, grid.quantize)
    tokenizer_path = folder / "tokenizer.json"
    vocabulary = load_vocabulary(tokenizer_path, routing)
    return Policy(model, read_tokenizer(tokenizer_path), routing, vocabulary, grid)


def load_model(folder: Path) -> PolicyModel:
    """The model of a Hugging Face folder, in float32. Raises :class:`BundleError` naming the file at fault."""
    config = read_config(folder / "config.json")
    with torch.device("meta"):  # the file's own tensors become the parameters: no second copy, nothing initialized
        model = PolicyModel(config)
    index = folder / "model.safetensors.index.json"
    weights = index if index.is_file() else folder / "model.safetensors"
    try:
        shards = sorted(set(read_json(index)["weight_map"].values())) if weights is index else [weights.name]
        tensors = {name: tensor.float() for shard in shards for name, tensor in load_file(folder / shard).items()}
        if config.tie_word_embeddings:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        kept = {name: tensors[name] for name in tensors if not name.endswith("rotary_emb.inv_freq")}
        model.load_state_dict(kept, assign=True)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"unreadable weights: {weights}. {reason}. Check the folder.") from None
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    model.cos, model.sin = rope_table(config, config.max_position_embeddings)
    return model.eval()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``. Raises :class:`BundleError` if there is none."""
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise BundleError(f"no such file: {path}. Not a policy folder. Check the path.") from None
    except ValueError as error:
        raise BundleError(f"unreadable JSON: {path}. {error}. Write the folder again.") from None
    if not isinstance(data, dict):
        raise BundleError(f"unreadable JSON: {path}. Not an object. Write the folder again.")
    return data
