"""Families of models that a policy can be: each is one small file, which says how it maps to the model's traits."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from edgekit.errors import BundleError
from edgekit.policy.families.family import COMMON_DEFAULTS, Family
from edgekit.policy.families.settings import Settings, refuse_quantized
from edgekit.policy.traits import ModelConfig

FAMILIES = (
    "llama", "mistral", "qwen2", "qwen3", "smollm3", "phi3", "gemma3_text", "olmo2", "granite", "granitemoehybrid",
)  # fmt: skip
"""Each is the name of a file here, and config.json's model_type."""
EXPERTS = "its layers choose among experts, which no target here runs"
STATE = "some of its layers carry a state of their own, not a KV cache"
PICTURES = "it reads pictures or sound"
REFUSED = {
    **dict.fromkeys(
        (
            "mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "granitemoe", "granitemoeshared", "olmoe", "phimoe",
            "deepseek_v2", "deepseek_v3", "llama4_text", "ernie4_5_moe", "glm4_moe", "dbrx", "minimax",
            "hunyuan_v1_moe",
        ),
        EXPERTS,
    ),
    **dict.fromkeys(
        (
            "lfm2", "lfm2_moe", "qwen3_next", "qwen3_5", "qwen3_5_text", "mamba", "mamba2", "falcon_mamba", "jamba",
            "falcon_h1", "nemotron_h", "zamba", "zamba2", "bamba", "recurrent_gemma", "rwkv",
        ),
        STATE,
    ),
    **dict.fromkeys(
        (
            "gemma3", "gemma3n", "gemma4", "llama4", "mllama", "mistral3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl",
            "qwen2_audio", "phi3_v", "phi4mm", "phi4_multimodal", "idefics3", "smolvlm", "llava", "paligemma",
            "internvl", "lfm2_vl",
        ),
        PICTURES,
    ),
    "gemma3n_text": "its layers share caches and add embeddings of their own",
    "gemma4_text": "its layers share caches and add embeddings of their own",
    "gemma2": "it caps the logits of its attention",
}  # fmt: skip
"""Families that are known and not read, and why; docs/models.md says what each would take."""
TEXT_OF_GEMMA3 = (
    " Its text model is read: put it into a folder of its own with python -c "
    '"from transformers import AutoModelForImageTextToText as M; '
    "M.from_pretrained('{folder}').model.language_model.save_pretrained('OUT')\", the tokenizer's files beside it."
)


def get_family(name: str) -> Family:
    """The family ``name``, one of :data:`FAMILIES`."""
    family: Family = import_module(f"{__name__}.{name}").FAMILY
    return family


def read_model_config(data: dict[str, Any], path: Path) -> ModelConfig:
    """The model that the config.json ``data`` describes; ``path`` is for messages.

    Raises :class:`BundleError` naming a family that is not read, and every key that edgekit does not compute; and for a
    model that could be computed, but not be saved again, since its family has no keys for it.
    """
    config = _read(data, path)
    try:
        write_model_config(config)
    except ValueError as error:
        raise BundleError(f"unsupported config: {path}. {error}. It could not be saved. Use another model.") from None
    return config


def _read(data: dict[str, Any], path: Path) -> ModelConfig:
    name = data.get("model_type")
    if name not in FAMILIES:
        why = REFUSED.get(str(name), "edgekit does not know what it computes")
        more = TEXT_OF_GEMMA3.format(folder=path.parent) if name == "gemma3" else ""
        raise BundleError(
            f"unsupported model: {name} in {path}. {why[0].upper()}{why[1:]}.{more} Use one of {', '.join(FAMILIES)}, "
            "or see docs/models.md."
        )
    refuse_quantized(data, path)
    family = get_family(name)
    return family.read(name, Settings(data, {**COMMON_DEFAULTS, **family.defaults}, path))


def write_model_config(config: ModelConfig) -> dict[str, Any]:
    """The keys of config.json that say ``config``, its model_type and architecture among them.

    Raises ValueError for traits that the config's family has no keys for.
    """
    family = get_family(config.family)
    try:
        written = {"architectures": [family.architecture], "model_type": config.family, **family.write(config)}
        is_whole = _read(written, Path("config.json")) == config
    except (BundleError, LookupError):
        is_whole = False
    if not is_whole:
        ropes = ", ".join(type(rope.scaling).__name__ for rope in config.ropes if rope.scaling is not None)
        raise ValueError(f"a {config.family} has no keys for all of it" + (f" ({ropes})" if ropes else ""))
    return written
