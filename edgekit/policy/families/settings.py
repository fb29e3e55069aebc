"""A config.json as it is read: every key is asked for by a family, known to change nothing, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgekit.errors import BundleError
from edgekit.record_lines import is_number

Choice = TypeVar("Choice", bound=str)
HARMLESS = frozenset({
    # what the file says of itself and of how others load it
    "architectures", "model_type", "_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype",
    "auto_map", "_attn_implementation", "_attn_implementation_autoset", "attn_implementation", "_flash_attn_2_enabled",
    "tokenizer_class", "unsloth_fixed", "unsloth_version", "transformers.js_config", "is_llama_config",
    # training only
    "initializer_range", "attention_dropout", "resid_pdrop", "embd_pdrop", "hidden_dropout", "layerdrop", "use_cache",
    "gradient_checkpointing", "pretraining_tp",
    # token ids, which the tokenizer and the stop tokens are read for elsewhere
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id", "decoder_start_token_id",
    # how transformers generates; edgekit decodes by itself
    "temperature", "top_k", "top_p", "typical_p", "do_sample", "max_length", "min_length", "max_new_tokens",
    "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "repetition_penalty", "length_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "num_return_sequences", "remove_invalid_values",
    "output_scores", "return_dict_in_generate", "cache_implementation",
    # heads of other tasks, and what a forward pass returns
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params", "return_dict",
    "output_attentions", "output_hidden_states", "torchscript", "use_bfloat16", "tf_legacy_loss", "prefix",
    "is_decoder",
})  # fmt: skip
"""Keys that do not change what a model computes."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({},),
    "chunk_size_feed_forward": (0,),
    "is_causal": (True,),
    "alibi": (False,),
    "bias": (False,),
    "qkv_bias": (False,),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "lm_head_bias": (False,),
    "partial_rotary_factor": (1.0,),
    "rope_interleaved": (False,),
    "use_mrope": (False,),
    "use_sliding_window": (False,),
    "use_bidirectional_attention": (False,),
    "use_qk_norm": (False,),
    "full_attn_mod": (1,),
    "interpolate_factor": (1,),
}
"""Keys that would change it, and the values with which they do not. null is such a value for every key."""
QUANTIZED = ("quantization_config", "compression_config", "quantization")
LARGEST = 2**24
"""No size in a config.json may be larger: a damaged file must not make edgekit reserve the machine's memory."""
LARGEST_OF = {"num_hidden_layers": 2**10, "num_attention_heads": 2**12, "num_key_value_heads": 2**12, "head_dim": 2**13}
"""Sizes that no model comes near, though they are smaller."""
TABLE_CELLS = 2**27
"""A rotary table may have so many, which is a million positions of 128 channels."""


class Settings:
    """The keys of one config.json, with what transformers takes where one is absent.

    A family asks for every key that it implements, once and whatever the others say; :meth:`check` then refuses the
    rest. Faults are gathered, so that one line names them all.
    """

    def __init__(self, data: dict[str, Any], defaults: dict[str, Any], path: Path) -> None:
        self.data, self.path = data, path
        self._defaults = defaults
        self._asked: set[str] = set()
        self._faults: list[str] = []

    def get(self, key: str) -> Any:
        """The value as it stands; the family's default if the key is absent, null if it has none."""
        self._asked.add(key)
        return self.data.get(key, self._defaults.get(key))

    def size(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number from ``least`` on; ``default`` if the key is absent or null."""
        value = self.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.fault(f"{key} {shown(value)} is not a size" if key in self.data else f"it lacks {key}")
            return 1
        if value > LARGEST_OF.get(key, LARGEST):
            self.fault(f"{key} {shown(value)} is not a size up to {LARGEST_OF.get(key, LARGEST):,}")
            return 1
        return value

    def number(self, key: str) -> float:
        """A finite number above 0."""
        value = self.get(key)
        if isinstance(value, bool) or not is_number(value) or value <= 0:
            self.fault(f"{key} {shown(value)} is not a number above 0" if key in self.data else f"it lacks {key}")
            return 1.0
        return float(value)

    def flag(self, key: str) -> bool:
        """true or false; null is false."""
        value = self.get(key)
        if value not in (None, True, False):
            self.fault(f"{key} {shown(value)} is neither true nor false")
        return bool(value)

    def choice(self, key: str, allowed: Mapping[str, Choice]) -> Choice:
        """What ``allowed`` calls the value."""
        value = self.get(key)
        if not isinstance(value, str) or value not in allowed:
            self.fault(f"{key} {shown(value)} is none of {', '.join(allowed)}")
            return next(iter(allowed.values()))
        return allowed[value]

    def only(self, key: str, *allowed: Any) -> None:
        """Take the key where it is absent, null or one of ``allowed``; refuse any other value."""
        value = self.get(key)
        if value is not None and not any(same(value, each) for each in allowed):
            self.fault(f"{key} {shown(value)} is not computed")

    def fault(self, what: str) -> None:
        """Note why this config cannot be read, once."""
        if what not in self._faults:
            self._faults.append(what)

    def check(self) -> None:
        """Raise :class:`BundleError` for the faults noted, and for every key that nobody knows."""
        family = self.data.get("model_type")
        for key, value in self.data.items():
            if key in self._asked or key in HARMLESS or value is None:
                continue
            if key in NEUTRAL:
                self.only(key, *NEUTRAL[key])
            else:
                self.fault(f"{key} {shown(value)} is unknown")
        if self._faults:
            raise BundleError(
                f"unsupported config: {self.path}. {'; '.join(self._faults)}. edgekit must not guess what a {family} "
                "computes. Use another model, or delete a key if you know that it changes nothing."
            )


def refuse_quantized(data: dict[str, Any], path: Path) -> None:
    """Raise :class:`BundleError` if ``data`` says that the weights are quantized already."""
    for key in QUANTIZED:
        if data.get(key):
            method = data[key].get("quant_method", "unnamed") if isinstance(data[key], dict) else "unnamed"
            raise BundleError(quantized_model(f"{key} ({method})", path))


def quantized_model(sign: str, path: Path) -> str:
    """The line for a model of which ``sign`` in ``path`` says that it is quantized already."""
    return (
        f"quantized model: {sign} in {path}. edgekit quantizes by its own recipes and starts from floats. Give the "
        "unquantized model."
    )


def same(value: Any, other: Any) -> bool:
    """Equal, and true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def shown(value: Any) -> str:
    """``value`` as a fault shows it."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def named(items: Sequence[str], most: int = 3) -> str:
    """The first ``most`` of ``items``, and how many more."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
