"""What a family of models says of itself: how its config.json and its weights' names map to the traits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from edgekit.policy.families.rope_settings import one_rope, rope_settings
from edgekit.policy.families.settings import TABLE_CELLS, Settings
from edgekit.policy.rope import Rope
from edgekit.policy.traits import Activation, LayerTraits, ModelConfig

ACTIVATION_NAMES: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu2",
}
"""transformers' names of the activations; the first of each is the one written."""
COMMON_DEFAULTS: dict[str, Any] = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
}
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)


def _nothing(_: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Family:
    """One family. Its two functions are each other's inverse; what every family has is read and written here.

    architecture: transformers' class.
    traits: the fields of :class:`ModelConfig` that its config.json decides beyond the common ones.
    settings: the keys of config.json that say them.
    defaults: what transformers takes for a key that is absent, where it is not :data:`COMMON_DEFAULTS`.
    ropes: its rotary positions.
    renamed: modules of a layer by Llama's name, as its files call them.
    fused: modules of its files that hold the rows of several, one below the other.
    norm_offset: what its files leave off the norms' weights.
    """

    architecture: str
    traits: Callable[[Settings], dict[str, Any]] = _nothing
    settings: Callable[[ModelConfig], dict[str, Any]] = _nothing
    defaults: Mapping[str, Any] = field(default_factory=dict)
    ropes: Callable[[Settings, int], tuple[Rope, ...]] = one_rope
    activation_key: str = "hidden_act"
    renamed: Mapping[str, str] = field(default_factory=dict)
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    norm_offset: float = 0.0

    def read(self, name: str, settings: Settings) -> ModelConfig:
        """The model that ``settings`` describe. Raises :class:`BundleError` naming every key edgekit cannot compute."""
        sizes = {key: settings.size(key) for key in SIZES}
        heads = sizes["num_attention_heads"]
        kv_heads = settings.size("num_key_value_heads", heads)
        head_dim = settings.size("head_dim", max(1, sizes["hidden_size"] // heads))
        if heads % kv_heads:
            settings.fault(f"num_key_value_heads {kv_heads} does not divide num_attention_heads {heads}")
        if sizes["max_position_embeddings"] * head_dim > TABLE_CELLS:
            settings.fault(f"max_position_embeddings {sizes['max_position_embeddings']} is too many for heads so wide")
            sizes["max_position_embeddings"] = 1
        fields = {
            **sizes,
            "num_key_value_heads": kv_heads,
            "head_dim": head_dim,
            "ropes": self.ropes(settings, head_dim),
            "rms_norm_eps": settings.number("rms_norm_eps"),
            "tie_word_embeddings": settings.flag("tie_word_embeddings"),
            "activation": settings.choice(self.activation_key, ACTIVATION_NAMES),
            **self.traits(settings),
        }
        settings.check()
        return ModelConfig(**fields, family=name)

    def write(self, config: ModelConfig) -> dict[str, Any]:
        """The keys of config.json that :meth:`read` makes ``config`` of."""
        names = {activation: name for name, activation in reversed(ACTIVATION_NAMES.items())}
        return {
            **{key: getattr(config, key) for key in (*SIZES, "num_key_value_heads", "head_dim")},
            **rope_settings(config.ropes[0]),
            "rms_norm_eps": config.rms_norm_eps,
            "tie_word_embeddings": config.tie_word_embeddings,
            self.activation_key: names[config.activation],
            **self.settings(config),
        }

    def layout(self, names: list[str]) -> dict[str, list[str]]:
        """Each tensor of its files with the parameters, by Llama's ``names``, whose rows it holds in this order."""
        owner = {part: whole for whole, parts in self.fused.items() for part in parts}
        layout: dict[str, list[str]] = {}
        for name in names:
            module, _, kind = name.rpartition(".")
            layer, inside = _split_layer(module)
            stored = owner.get(inside) or self.renamed.get(inside, inside)
            layout.setdefault(f"{layer}{stored}.{kind}", []).append(name)
        return layout

    def stored_shapes(self, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Size]:
        """The tensors of the family's files for parameters of ``shapes``, by Llama's names."""
        return {
            name: torch.Size((sum(shapes[part][0] for part in parts), *shapes[parts[0]][1:]))
            for name, parts in self.layout(list(shapes)).items()
        }

    def load(self, stored: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """The parameters of ``shapes``, by Llama's names, from the tensors of the family's files."""
        tensors: dict[str, Tensor] = {}
        for name, parts in self.layout(list(shapes)).items():
            rows = stored[name].split([shapes[part][0] for part in parts])
            tensors |= {part: self._offset(part, piece, 1.0) for part, piece in zip(parts, rows, strict=True)}
        return tensors

    def store(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the family's files from parameters by Llama's names: the inverse of :meth:`load`."""
        stored = {}
        for name, parts in self.layout(list(tensors)).items():
            pieces = [self._offset(part, tensors[part], -1.0) for part in parts]
            stored[name] = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return stored

    def _offset(self, name: str, tensor: Tensor, sign: float) -> Tensor:
        is_norm = name.endswith("norm.weight")
        return tensor + sign * self.norm_offset if self.norm_offset and is_norm else tensor


def _split_layer(module: str) -> tuple[str, str]:
    """("model.layers.3.", "mlp.up_proj") of "model.layers.3.mlp.up_proj"; ("", module) of one in no layer."""
    if not module.startswith("model.layers."):
        return "", module
    _, _, number, inside = module.split(".", 3)
    return f"model.layers.{number}.", inside


SLIDING, FULL = "sliding_attention", "full_attention"


def layers_with_window(
    settings: Settings, window: int | None, default: list[str], ropes: tuple[int | None, ...] = ()
) -> tuple[LayerTraits, ...]:
    """Each layer's traits by the config's layer_types, or by ``default`` where it has none.

    ``ropes`` says each layer's rope; empty: all have the first.
    """
    types = settings.get("layer_types")
    types = default if types is None else types
    count = settings.size("num_hidden_layers")
    if not isinstance(types, list) or len(types) != count or any(kind not in (SLIDING, FULL) for kind in types):
        settings.fault(f"layer_types are not {count} of {SLIDING} and {FULL}")
        return ()
    if SLIDING in types and window is None:
        settings.fault(f"layer_types has {SLIDING} without a window")
    return tuple(
        LayerTraits(window if kind == SLIDING else None, rope)
        for kind, rope in zip(types, ropes or (0,) * count, strict=True)
    )


def read_window(settings: Settings) -> int | None:
    """sliding_window, in positions."""
    return None if settings.get("sliding_window") is None else settings.size("sliding_window")


def window_of(config: ModelConfig) -> int | None:
    """The one window that layers of ``config`` have, if any has."""
    return next((layer.window for layer in config.layers if layer.window is not None), None)


def layer_types(config: ModelConfig) -> list[str]:
    """The layers' kinds, as transformers writes them."""
    return [FULL if layer.window is None else SLIDING for layer in config.layers]
