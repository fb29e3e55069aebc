"""The two interfaces an ONNX policy can have: what goes in, what comes out, and how a layer attends.

Both attend with ONNX Runtime's GroupQueryAttention. ``FusedLayout`` keeps one KV buffer per layer that is written
in place and leaves positions to the operator; ``StandardLayout`` takes what Hugging Face's runtimes give.
The operator's heads are multiples of HEAD_UNIT channels: others are filled up with zeros, which change no product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgekit.export.targets.onnx_graph import Graph
from edgekit.policy.model import Attention, PolicyModel
from edgekit.policy.traits import LayerTraits, ModelConfig
from edgekit.quantize.cache import CacheGrid

HEAD_UNIT = 8
"""What the operator wants a head's channels to be a multiple of."""
MERGED = np.array([0, 0, -1], np.int64)
"""The shape (B, T, everything else) for Reshape."""
INTEGER_CACHE = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
"""What GroupQueryAttention is told of a cache that holds int8."""
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

    The caches' head_dim is the model's, filled up. ``position`` counts the tokens already in the caches. Bind each
    past and its present to the same memory: the operator then writes the new tokens only, and copies nothing.
    Caches are float32, or int8 where the model's attention has a :class:`CacheGrid`: the operator rounds and scales.
    """

    last_only = True

    def __init__(self, graph: Graph, model: PolicyModel, context_length: int) -> None:
        self._graph, self._config = graph, model.config
        self._attentions = [module for module in model.modules() if isinstance(module, Attention)]
        self._context_length = context_length
        config = model.config
        self.packed = not config.qk_norm and all(map(self._turns_inside, config.layers))
        ids = graph.input("input_ids", np.int64, (1, "tokens"))
        position = graph.input("position", np.int64, (1,))
        count = graph.node("Size", [ids], "token_count")
        total = graph.node("Add", [position, count], "total")
        one = graph.constant("one", np.array([1], np.int64))
        self._last = graph.node("Cast", [graph.node("Sub", [total, one], "last")], "seqlens_k", to=6)  # 6: int32
        self._total = graph.node("Cast", [total], "total_length", to=6)
        self._tables = rope_tables(graph, model, context_length)
        self._head = filled_head(config.head_dim)
        self._cache_shape = (1, config.num_key_value_heads, context_length, self._head)
        graph.output("logits", np.float32, (1, config.vocab_size))

    def attend(self, layer: int, q: str, k: str, v: str) -> str:
        graph, config = self._graph, self._config
        past, present = ([f"{when}_{kind}_{layer}" for kind in ("key", "value")] for when in ("past", "present"))
        name, traits = f"model.layers.{layer}.self_attn", config.layers[layer]
        scales = self._cache_scales(name, self._attentions[layer])
        for cache in past:
            graph.input(cache, np.int8 if scales else np.float32, self._cache_shape)
        for cache in present:
            graph.output(cache, np.int8 if scales else np.float32, self._cache_shape)
        tables = [] if traits.rope is None else self._tables[traits.rope]
        if traits.rope is not None and not self._turns_inside(traits):
            part = config.ropes[traits.rope].dims
            q = rotate(graph, f"{name}.q_rotated", q, "position", tables, config.num_attention_heads, part)
            k = rotate(graph, f"{name}.k_rotated", k, "position", tables, config.num_key_value_heads, part)
            tables = []
        q, k, v = self._filled(f"{name}.q", q, True), self._filled(f"{name}.k", k), self._filled(f"{name}.v", v)
        output = name if self._head == config.head_dim else f"{name}.filled"
        further = [*(tables or ["", ""]), "", "", "", *scales] if scales else tables
        context = graph.node(
            "GroupQueryAttention",
            [q, k, v, *past, self._last, self._total, *further],
            output,
            outputs=[output, *present],
            num_heads=config.num_attention_heads,
            kv_num_heads=config.num_key_value_heads,
            **({"do_rotary": 1} if tables else {}),
            **(INTEGER_CACHE if scales else {}),
            **attention_attributes(config, traits, self._context_length),
        )
        return context if output == name else self._emptied(name, context)

    def _cache_scales(self, name: str, attention: Attention) -> list[str]:
        """The keys' and the values' scales (1, kv_heads, 1, filled dim) float32; none for a cache of floats."""
        grids = {"key": attention.key_grid, "value": attention.value_grid}
        shape = (1, self._config.num_key_value_heads, 1, self._head)
        return [
            self._graph.weight(f"{name}.{kind}_scales", shape, np.float32, _filled_scales(grid, self._head))
            for kind, grid in grids.items()
            if isinstance(grid, CacheGrid)
        ]

    def _filled(self, name: str, x: str, queries: bool = False) -> str:
        """x (B, T, heads * dim) with zeros at the end of each head, where the operator wants longer ones."""
        config, graph = self._config, self._graph
        missing = self._head - config.head_dim
        if missing == 0:
            return x
        heads = config.num_attention_heads if queries else config.num_key_value_heads
        shape = graph.constant(f"heads_{heads}", np.array([0, 0, heads, config.head_dim], np.int64))
        zeros = graph.constant("fill", np.array([0, 0, 0, 0, 0, 0, 0, missing], np.int64))
        split = graph.node("Reshape", [x, shape], f"{name}.heads")
        filled = graph.node("Pad", [split, zeros], f"{name}.fill")
        return graph.node("Reshape", [filled, graph.constant("merged", MERGED)], f"{name}.filled")

    def _emptied(self, name: str, x: str) -> str:
        """The context x (B, T, heads * filled dim) without the channels that were filled in."""
        config, graph = self._config, self._graph
        heads = np.array([0, 0, config.num_attention_heads, self._head], np.int64)
        split = graph.node("Reshape", [x, graph.constant("filled_heads", heads)], f"{name}.filled_heads")
        numbers = {"fill_start": 0, "fill_end": config.head_dim, "fill_axis": 3}
        bounds = [graph.constant(key, np.array([value], np.int64)) for key, value in numbers.items()]
        kept = graph.node("Slice", [split, *bounds], f"{name}.kept")
        return graph.node("Reshape", [kept, graph.constant("merged", MERGED)], name)

    def _turns_inside(self, traits: LayerTraits) -> bool:
        """Whether the operator can rotate by itself: it wants pairs of channels by the eight."""
        config = self._config
        whole = config.head_dim % HEAD_UNIT == 0
        return whole and (traits.rope is None or (config.ropes[traits.rope].dims or config.head_dim) // 2 % 8 == 0)


class StandardLayout:
    """input_ids, attention_mask, position_ids, past_key_values.N.key and .value: Hugging Face's names and shapes.

    Batches may be padded on the left. Logits of every token come out, and caches grown by the tokens given.
    The operator takes several tokens over a cache that is not empty for a batch of one only.
    """

    packed = False
    last_only = False

    def __init__(self, graph: Graph, model: PolicyModel) -> None:
        self._graph, self._config = graph, model.config
        config = model.config
        graph.input("input_ids", np.int64, ("batch_size", "sequence_length"))
        mask = graph.input("attention_mask", np.int64, ("batch_size", "total_sequence_length"))
        self._positions = graph.input("position_ids", np.int64, ("batch_size", "sequence_length"))
        self._tables = rope_tables(graph, model, config.context_length)
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
        name, traits = f"model.layers.{layer}.self_attn", config.layers[layer]
        if traits.rope is not None:
            tables, part = self._tables[traits.rope], config.ropes[traits.rope].dims
            q = rotate(graph, f"{name}.q_rotated", q, self._positions, tables, config.num_attention_heads, part)
            k = rotate(graph, f"{name}.k_rotated", k, self._positions, tables, heads, part)
        return graph.node(
            "GroupQueryAttention",
            [q, k, v, *past, self._last, self._total, "", "", "", self._bias],
            name,
            outputs=[name, *present],
            num_heads=config.num_attention_heads,
            kv_num_heads=heads,
            **attention_attributes(config, traits, config.context_length),
        )

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


def rope_tables(graph: Graph, model: PolicyModel, length: int) -> list[list[str]]:
    """cos and sin (length, channels / 2) of each of the model's ropes; both halves of the channels turn alike."""
    names = []
    for index, rope in enumerate(model.config.ropes):
        pairs = (rope.dims or model.config.head_dim) // 2
        suffix = f"_{index}" if index else ""
        names.append(
            [
                graph.weight(f"{kind}_cache{suffix}", (length, pairs), np.float32, _first_columns(table, length, pairs))
                for kind, table in zip(("cos", "sin"), model.tables(index), strict=True)
            ]
        )
    return names


def _filled_scales(grid: CacheGrid, head: int) -> Callable[[], NDArray[np.float32]]:
    """Scales (1, kv_heads, 1, head): the channels that are filled in hold zeros, whatever theirs is."""
    missing = head - grid.scales.shape[1]
    return lambda: F.pad(grid.scales, (0, missing), value=1.0)[None, :, None].numpy()


def _first_columns(table: Tensor, rows: int, columns: int) -> Callable[[], NDArray[np.float32]]:
    return lambda: table[:rows, :columns].numpy()


def rotate(graph: Graph, name: str, x: str, positions: str, tables: list[str], heads: int, channels: int | None) -> str:
    """x (B, T, heads * dim) turned by ``positions``, each token's or the first one's; None: all channels of a head."""
    part: dict[str, Any] = {} if channels is None else {"num_heads": heads, "rotary_embedding_dim": channels}
    return graph.node("RotaryEmbedding", [x, positions, *tables], name, **part)


def attention_attributes(config: ModelConfig, traits: LayerTraits, context_length: int) -> dict[str, Any]:
    """What GroupQueryAttention is told beyond its heads: a window, where the context is longer, and a scale."""
    attributes: dict[str, Any] = {}
    if traits.window is not None and traits.window < context_length:
        attributes["local_window_size"] = traits.window
    if config.attention_scale is not None:
        attributes["scale"] = config.attention_scale
    elif config.head_dim % HEAD_UNIT:  # the operator would take the filled head's
        attributes["scale"] = config.head_dim**-0.5
    return attributes


def filled_head(head_dim: int) -> int:
    """The channels that the operator's heads have for a model's ``head_dim``."""
    return -(-head_dim // HEAD_UNIT) * HEAD_UNIT
