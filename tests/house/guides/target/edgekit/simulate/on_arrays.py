"""Run model.npz: a Llama's decoder in NumPy, with its KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.routing.step_model import Logits

Array = NDArray[np.float32]


def open_artifact(path: Path, context_length: int, prefill_chunk: int) -> ArraysModel:  # noqa: ARG001
    """Load model.npz at ``path``."""
    with np.load(path) as file:
        return ArraysModel(dict(file), context_length)


class ArraysModel:
    """A :class:`~edgekit.simulate.SimulatedModel` over the arrays."""

    def __init__(self, arrays: dict[str, Array], context_length: int) -> None:
        self.runtime, self.context_length, self.cache = f"numpy {np.__version__}", context_length, "float"
        self.heads, self.kv_heads, self.dim = (int(number) for number in arrays["heads"])
        self.numbers = arrays
        for name in [name.removesuffix(".scales") for name in arrays if name.endswith(".scales")]:
            values, scales = arrays[f"{name}.values"].astype(np.float32), arrays[f"{name}.scales"]
            self.numbers[name] = (values.reshape(*scales.shape, -1) * scales[..., None]).reshape(values.shape)
        self.layers = sum(name.endswith("input_layernorm") for name in arrays)
        self.reset()

    def reset(self) -> None:
        """Back to position 0."""
        self.keys = [np.zeros((0, self.kv_heads, self.dim), np.float32) for _ in range(self.layers)]
        self.values = list(self.keys)

    def decode(self, token_id: int) -> Logits:
        """One token."""
        return self.prefill([token_id])

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """All of ``token_ids`` after what was taken before."""
        x = self.numbers["model.embed_tokens"][list(token_ids)]
        for layer in range(self.layers):
            name = f"model.layers.{layer}"
            x = x + self._attention(layer, self._norm(f"{name}.input_layernorm", x))
            h = self._norm(f"{name}.post_attention_layernorm", x)
            gate = self._linear(f"{name}.mlp.gate_proj", h)
            h = gate / (1 + np.exp(-gate)) * self._linear(f"{name}.mlp.up_proj", h)
            x = x + self._linear(f"{name}.mlp.down_proj", h)
        return self._linear("lm_head", self._norm("model.norm", x[-1]))

    def _attention(self, layer: int, x: Array) -> Array:
        name, length = f"model.layers.{layer}.self_attn", len(x)
        start = len(self.keys[layer])
        q, k, v = (self._linear(f"{name}.{p}_proj", x).reshape(length, -1, self.dim) for p in "qkv")
        self.keys[layer] = np.concatenate([self.keys[layer], self._rotate(k, start)])
        self.values[layer] = np.concatenate([self.values[layer], v])
        groups = self.heads // self.kv_heads
        keys, values = (part[layer].repeat(groups, axis=1) for part in (self.keys, self.values))
        scores = np.einsum("thd,shd->hts", self._rotate(q, start), keys) / np.sqrt(self.dim)
        unseen = np.arange(start + length) > np.arange(start, start + length)[:, None]
        weights = np.exp(np.where(unseen, -np.inf, scores - scores.max(-1, keepdims=True)))
        context = np.einsum("hts,shd->thd", weights / weights.sum(-1, keepdims=True), values)
        return self._linear(f"{name}.o_proj", context.reshape(length, -1).astype(np.float32))

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self.numbers[name].T

    def _norm(self, name: str, x: Array) -> Array:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.numbers["epsilon"]) * self.numbers[name]

    def _rotate(self, x: Array, start: int) -> Array:
        cos, sin = (self.numbers[table][start : start + len(x), None] for table in ("cos", "sin"))
        first, second = np.split(x, 2, axis=-1)
        return x * cos + np.concatenate([-second, first], axis=-1) * sin
