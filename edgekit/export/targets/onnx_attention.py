"""The two interfaces an ONNX policy can have: what goes in, what comes out, and how a layer attends.

Both attend with ONNX Runtime's GroupQueryAttention. ``FusedLayout`` keeps one KV buffer per layer that is written
in place and leaves positions to the operator; ``StandardLayout`` takes what Hugging Face's runtimes give.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from edgekit.export.targets.onnx_graph import Graph
from edgekit.policy.model import ModelConfig

MASKED = -1e9
"""Added to the score of a padding token. Finite, so that a row of padding alone has a softmax too."""


class Layout(Protocol):
    """What the decoder needs of an interface."""

    packed: bool
    """Whether ``attend`` takes q, k and v side by side in ``q``, with ``k`` and ``v`` empty."""
    last_only: bool
    """Whether the caller wants the last token's logits alone."""

    def attend(self, layer: int, q: str, k: str, v: str) -> str:
        """q (B, T, heads * dim), k and v (B, T, kv_heads * dim) -> context (B, T, heads * dim)."""


class FusedLayout:
    """input_ids (1, tokens) int64, position (1,) int64, past_key_N, past_value_N (1, kv_heads, context, head_dim).

    ``position`` counts the tokens already in the caches. Bind each past and its present to the same memory: the
    operator then writes the new tokens only, and copies nothing.
    """

    last_only = True

    def __init__(self, graph: Graph, config: ModelConfig, context_length: int, cos: Tensor, sin: Tensor) -> None:
        self._graph, self._config = graph, config
        self.packed = not config.qk_norm
        ids = graph.input("input_ids", np.int64, (1, "tokens"))
        position = graph.input("position", np.int64, (1,))
        count = graph.node("Size", [ids], "token_count")
        total = graph.node("Add", [position, count], "total")
        one = graph.constant("one", np.array([1], np.int64))
        self._last = graph.node("Cast", [graph.node("Sub", [total, one], "last")], "seqlens_k", to=6)  # 6: int32
        self._total = graph.node("Cast", [total], "total_length", to=6)
        self._tables = rope_tables(graph, cos, sin, context_length)
        self._cache_shape = (1, config.num_key_value_heads, context_length, config.head_dim)
        graph.output("logits", np.float32, (1, config.vocab_size))

    def attend(self, layer: int, q: str, k: str, v: str) -> str:
        graph, config = self._graph, self._config
        past, present = ([f"{when}_{kind}_{layer}" for kind in ("key", "value")] for when in ("past", "present"))
        for name in past:
            graph.input(name, np.float32, self._cache_shape)
        for name in present:
            graph.output(name, np.float32, self._cache_shape)
        name = f"model.layers.{layer}.self_attn"
        return graph.node(
            "GroupQueryAttention",
            [q, k, v, *past, self._last, self._total, *self._tables],
            name,
            outputs=[name, *present],
            num_heads=config.num_attention_heads,
            kv_num_heads=config.num_key_value_heads,
            do_rotary=1,
        )


class StandardLayout:
    """input_ids, attention_mask, position_ids, past_key_values.N.key and .value: Hugging Face's names and shapes.

    Batches may be padded on the left. Logits of every token come out, and caches grown by the tokens given.
    The operator takes several tokens over a cache that is not empty for a batch of one only.
    """

    packed = False
    last_only = False

    def __init__(self, graph: Graph, config: ModelConfig, cos: Tensor, sin: Tensor) -> None:
        self._graph, self._config = graph, config
        graph.input("input_ids", np.int64, ("batch_size", "sequence_length"))
        mask = graph.input("attention_mask", np.int64, ("batch_size", "total_sequence_length"))
        self._positions = graph.input("position_ids", np.int64, ("batch_size", "sequence_length"))
        self._tables = rope_tables(graph, cos, sin, cos.shape[0])
        self._lengths(mask)
        self._bias = self._mask_bias(mask)
        graph.output("logits", np.float32, ("batch_size", "sequence_length", config.vocab_size))

    def attend(self, layer: int, q: str, k: str, v: str) -> str:
        graph, config = self._graph, self._config
        past, present = (
            [f"{when}.{layer}.{kind}" for kind in ("key", "value")] for when in ("past_key_values", "present")
        )
        heads, dim = config.num_key_value_heads, config.head_dim
        for name in past:
            graph.input(name, np.float32, ("batch_size", heads, "past_sequence_length", dim))
        for name in present:
            graph.output(name, np.float32, ("batch_size", heads, "total_sequence_length", dim))
        name = f"model.layers.{layer}.self_attn"
        q, k = self._rotate(q, f"{name}.q_rotated"), self._rotate(k, f"{name}.k_rotated")
        return graph.node(
            "GroupQueryAttention",
            [q, k, v, *past, self._last, self._total, "", "", "", self._bias],
            name,
            outputs=[name, *present],
            num_heads=config.num_attention_heads,
            kv_num_heads=heads,
        )

    def _rotate(self, x: str, name: str) -> str:
        return self._graph.node("RotaryEmbedding", [x, self._positions, *self._tables], name)

    def _lengths(self, mask: str) -> None:
        """The operator's lengths: every row is as long as the mask, padding included."""
        graph = self._graph
        total = graph.node("Shape", [mask], "total", start=1, end=2)
        one = graph.constant("one", np.array([1], np.int64))
        last = graph.node("Cast", [graph.node("Sub", [total, one], "last")], "last_int32", to=6)  # 6: int32
        rows = graph.node("Shape", [mask], "rows", start=0, end=1)
        self._last = graph.node("Expand", [last, rows], "seqlens_k")
        self._total = graph.node("Cast", [total], "total_length", to=6)

    def _mask_bias(self, mask: str) -> str:
        """attention_mask (B, total), 1 for a token, as scores to add, (B, 1, T, total)."""
        graph = self._graph
        real = graph.node("Cast", [mask], "mask_float", to=1)  # 1: float32
        hidden = graph.node("Sub", [graph.constant("one_float", np.array(1, np.float32)), real], "mask_hidden")
        bias = graph.node("Mul", [hidden, graph.constant("masked", np.array(MASKED, np.float32))], "mask_bias_rows")
        axes = graph.constant("mask_axes", np.array([1, 2], np.int64))
        bias = graph.node("Unsqueeze", [bias, axes], "mask_bias_row")
        tokens = graph.node("Shape", ["input_ids"], "tokens", start=1, end=2)
        ones = graph.constant("ones", np.array([1], np.int64))
        shape = graph.node("Concat", [ones, tokens, ones], "bias_shape", axis=0)
        return graph.node("Expand", [bias, shape], "mask_bias")


def rope_tables(graph: Graph, cos: Tensor, sin: Tensor, length: int) -> list[str]:
    """cos and sin (length, head_dim / 2) of the model's tables, which repeat each angle for both halves."""
    half = cos.shape[1] // 2
    shape = (length, half)
    return [
        graph.weight("cos_cache", shape, np.float32, lambda: cos[:length, :half].numpy()),
        graph.weight("sin_cache", shape, np.float32, lambda: sin[:length, :half].numpy()),
    ]
