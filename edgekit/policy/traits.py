"""What a policy network computes, as a list of traits. A family of models is a choice among them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekit.policy.rope import Rope

Activation = Literal["silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2"]
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).pow(2),
}


@dataclass(frozen=True)
class LayerTraits:
    """What a layer has of its own: the last ``window`` positions are all it sees, itself included (None: all).

    ``rope`` is the place of its rotary positions in :attr:`ModelConfig.ropes`; None: it has no positions.
    """

    window: int | None = None
    rope: int | None = 0


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and traits of a decoder; the defaults are a Llama's.

    ``attention_bias`` is of q, k and v, ``output_bias`` of o. ``qk_norm`` normalizes each head of q and k, or all
    heads together. ``input_norms`` stand before attention and MLP, ``output_norms`` after, inside the residual.
    Multiplied by a scale are the embeddings, the products of queries and keys (None: 1 / sqrt(head_dim)), and what
    attention and MLP add to the residual; the logits are divided by ``logit_divisor``. ``family`` names the layout
    of its files (:mod:`edgekit.policy.families`).
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    ropes: tuple[Rope, ...] = (Rope(),)
    layers: tuple[LayerTraits, ...] = ()
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    activation: Activation = "silu"
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: Literal["head", "width"] | None = None
    input_norms: bool = True
    output_norms: bool = False
    embedding_scale: float = 1.0
    attention_scale: float | None = None
    residual_scale: float = 1.0
    logit_divisor: float = 1.0
    family: str = "llama"

    def __post_init__(self) -> None:
        if not self.layers:
            object.__setattr__(self, "layers", (LayerTraits(),) * self.num_hidden_layers)
        if len(self.layers) != self.num_hidden_layers:
            raise ValueError(f"{len(self.layers)} layers' traits for {self.num_hidden_layers} layers")

    @property
    def context_length(self) -> int:
        """The longest sequence that a KV cache can hold: rotary positions may change with longer ones."""
        steady = [rope.scaling.steady for rope in self.ropes if rope.scaling is not None]
        return min([self.max_position_embeddings, *(length for length in steady if length is not None)])

    @property
    def query_scale(self) -> float:
        """What queries are multiplied by before an attention that divides by sqrt(head_dim)."""
        return 1.0 if self.attention_scale is None else self.attention_scale * math.sqrt(self.head_dim)
