"""Lower a policy to one ONNX file for ONNX Runtime.

The graph is written node by node from the model's modules, without tracing: a few fused operators per layer,
and the very integers and scales of the recipe as their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from edgekit.export.targets.onnx_attention import FusedLayout, Layout, StandardLayout
from edgekit.export.targets.onnx_graph import Graph, write_graph
from edgekit.export.targets.onnx_weights import can_stack, embedding, linear
from edgekit.policy.model import MLP, Attention, Block, ModelConfig, PolicyModel, RMSNorm
from edgekit.progress import Say
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.targets.onnx import TARGET

HEAD_UNITS = {"fused": 16, "standard": 8}
"""What a layout's head_dim must be a multiple of: GroupQueryAttention rotates halves of 8 numbers at a time."""


def problems(config: ModelConfig, recipe: ExportRecipe) -> list[str]:
    """What GroupQueryAttention cannot take."""
    unit = HEAD_UNITS[recipe.layout]
    if config.head_dim % unit:
        return [f"head_dim {config.head_dim}: the {recipe.layout} layout's attention has heads of multiples of {unit}"]
    return []


def lower(
    model: PolicyModel,
    recipe: ExportRecipe,
    folder: Path,
    *,
    stop_token_ids: Sequence[int] = (),  # noqa: ARG001  no place for them in this format
    say: Say | None = None,  # noqa: ARG001  short enough to say nothing
) -> Path:
    """Write ``folder/model.onnx`` and return its path.

    :class:`FusedLayout` and :class:`StandardLayout` say what goes in and comes out. The context is the recipe's,
    or the model's where that is shorter.
    """
    graph = Graph()
    length = min(recipe.context_length, model.cos.shape[0])
    layout: Layout
    if recipe.layout == "fused":
        layout = FusedLayout(graph, model.config, length, model.cos, model.sin)
    else:
        layout = StandardLayout(graph, model.config, model.cos, model.sin)
    build_decoder(graph, model, layout)
    path = folder / TARGET.artifact
    write_graph(graph, path)
    return path


def build_decoder(graph: Graph, model: PolicyModel, layout: Layout) -> None:
    """Every node from input_ids to logits; the residual goes from norm to norm, which adds to it on the way."""
    backbone = model.model
    blocks = [cast(Block, block) for block in backbone.layers]
    residual = embedding(graph, "model.embed_tokens", backbone.embed_tokens, model.lm_head, "lm_head", "input_ids")
    x = _norm(graph, "model.layers.0.input_layernorm", blocks[0].input_layernorm, residual)
    for number, block in enumerate(blocks):
        name = f"model.layers.{number}"
        x = _attention(graph, f"{name}.self_attn", block.self_attn, x, number, layout)
        is_last = block is blocks[-1]
        if is_last and layout.last_only:
            x, residual = _last_token(graph, x, f"{name}.last"), _last_token(graph, residual, f"{name}.last_residual")
        x = linear(graph, f"{name}.self_attn.o_proj", [block.self_attn.o_proj], x)
        x, residual = _add_norm(graph, f"{name}.post_attention_layernorm", block.post_attention_layernorm, residual, x)
        x = _mlp(graph, f"{name}.mlp", block.mlp, x, model.config.intermediate_size)
        if not is_last:
            following = blocks[number + 1].input_layernorm
            x, residual = _add_norm(graph, f"model.layers.{number + 1}.input_layernorm", following, residual, x)
    x, _ = _add_norm(graph, "model.norm", backbone.norm, residual, x)
    logits = linear(graph, "lm_head", [model.lm_head], x)
    graph.rename(logits, "logits")


def _attention(graph: Graph, name: str, module: Attention, x: str, layer: int, layout: Layout) -> str:
    """Projections, q/k norms if the model has them, and the layout's attention: context (B, T, heads * dim)."""
    config = module.config
    projections = {"q_proj": module.q_proj, "k_proj": module.k_proj, "v_proj": module.v_proj}
    stacked = can_stack(list(projections.values()))
    if stacked:
        qkv = linear(graph, f"{name}.qkv_proj", list(projections.values()), x)
        if layout.packed:
            return layout.attend(layer, qkv, "", "")
        sizes = [config.num_attention_heads * config.head_dim] + [config.num_key_value_heads * config.head_dim] * 2
        q, k, v = _split(graph, qkv, sizes, [f"{name}.{key}" for key in projections])
    else:
        q, k, v = (linear(graph, f"{name}.{key}", [projection], x) for key, projection in projections.items())
    if config.qk_norm:
        q = _head_norm(graph, f"{name}.q_norm", module.q_norm, q, config.num_attention_heads)
        k = _head_norm(graph, f"{name}.k_norm", module.k_norm, k, config.num_key_value_heads)
    return layout.attend(layer, q, k, v)


def _mlp(graph: Graph, name: str, module: MLP, x: str, width: int) -> str:
    """SwiGLU; gate and up are one product where their precision is the same."""
    if can_stack([module.gate_proj, module.up_proj]):
        both = linear(graph, f"{name}.gate_up_proj", [module.gate_proj, module.up_proj], x)
        gate, up = _split(graph, both, [width, width], [f"{name}.gate", f"{name}.up"])
    else:
        gate, up = (linear(graph, f"{name}.{key}_proj", [getattr(module, f"{key}_proj")], x) for key in ("gate", "up"))
    activated = graph.node("QuickGelu", [gate], f"{name}.silu", alpha=1.0)  # x * sigmoid(alpha * x)
    product = graph.node("Mul", [activated, up], f"{name}.product")
    return linear(graph, f"{name}.down_proj", [module.down_proj], product)


def _norm(graph: Graph, name: str, norm: RMSNorm, x: str) -> str:
    weight = _norm_weight(graph, name, norm)
    return graph.node("SimplifiedLayerNormalization", [x, weight], name, axis=-1, epsilon=norm.eps, stash_type=1)


def _add_norm(graph: Graph, name: str, norm: RMSNorm, residual: str, x: str) -> tuple[str, str]:
    """(norm(residual + x), residual + x)."""
    total = f"{name}.sum"
    outputs = [name, "", "", total]
    weight = _norm_weight(graph, name, norm)
    graph.node("SkipSimplifiedLayerNormalization", [residual, x, weight], name, outputs, epsilon=norm.eps)
    return name, total


def _head_norm(graph: Graph, name: str, norm: RMSNorm, x: str, heads: int) -> str:
    """Normalize each head of x (B, T, heads * dim) by itself."""
    dim = norm.weight.shape[0]
    split = graph.constant(f"heads_{heads}", np.array([0, 0, heads, dim], np.int64))
    merged = graph.constant("merged", np.array([0, 0, -1], np.int64))
    normed = _norm(graph, name, norm, graph.node("Reshape", [x, split], f"{name}.heads"))
    return graph.node("Reshape", [normed, merged], f"{name}.merged")


def _norm_weight(graph: Graph, name: str, norm: RMSNorm) -> str:
    return graph.weight(f"{name}.weight", norm.weight.shape, np.float32, lambda: norm.weight.detach().numpy())


def _split(graph: Graph, x: str, sizes: list[int], names: list[str]) -> list[str]:
    """x (..., sum of sizes) in pieces called ``names``."""
    lengths = graph.constant("sizes_" + "_".join(map(str, sizes)), np.array(sizes, np.int64))
    graph.node("Split", [x, lengths], f"{names[0]}.split", outputs=names, axis=-1)
    return names


def _last_token(graph: Graph, x: str, name: str) -> str:
    """x (1, tokens, width) -> (1, width)."""
    return graph.node("Gather", [x, graph.constant("minus_one", np.array(-1, np.int64))], name, axis=1)
