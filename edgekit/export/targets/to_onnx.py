"""Lower a policy to one ONNX file for ONNX Runtime.

The graph is written node by node from the model's modules, without tracing: a few fused operators per layer,
and the very integers and scales of the recipe as their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from torch import nn

from edgekit.export.targets import onnx_oldest
from edgekit.export.targets.onnx_attention import HEAD_UNIT, MERGED, FusedLayout, Layout, StandardLayout
from edgekit.export.targets.onnx_graph import Graph, write_graph
from edgekit.export.targets.onnx_weights import can_stack, embedding, linear
from edgekit.policy.model import MLP, Attention, Block, PolicyModel, RMSNorm
from edgekit.policy.traits import Activation, ModelConfig
from edgekit.progress import Say
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.targets.onnx import TARGET


def problems(config: ModelConfig, recipe: ExportRecipe) -> list[str]:
    """What the layouts' attention cannot take: the standard one's caches are the caller's, as long as the model's."""
    found = []
    if recipe.layout == "standard" and config.head_dim % HEAD_UNIT:
        found.append(
            f"layout: standard, ONNX Runtime's attention has heads of multiples of {HEAD_UNIT} and the model's have "
            f"{config.head_dim}; fused fills them up"
        )
    cache = recipe.quantize.cache
    if recipe.layout == "standard" and cache != "float":
        found.append(f"quantize.cache: {cache}, the standard layout's callers give floats; fused takes it")
    return found


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
    path = folder / TARGET.artifact
    write_graph(build_graph(model, recipe), path)
    return path


def oldest_runtime(model: PolicyModel, recipe: ExportRecipe) -> str:
    """The oldest ONNX Runtime that runs the artifact of ``model``."""
    return onnx_oldest.oldest_runtime(build_graph(model, recipe).nodes)


def build_graph(model: PolicyModel, recipe: ExportRecipe) -> Graph:
    """The graph of ``model``; its weights are made when it is written."""
    graph = Graph()
    length = min(recipe.context_length, model.cos.shape[0])
    layout: Layout = FusedLayout(graph, model, length) if recipe.layout == "fused" else StandardLayout(graph, model)
    build_decoder(graph, model, layout)
    return graph


def build_decoder(graph: Graph, model: PolicyModel, layout: Layout) -> None:
    """Every node from input_ids to logits; the residual goes from norm to norm, which adds to it on the way."""
    backbone, config = model.model, model.config
    blocks = [cast(Block, block) for block in backbone.layers]
    residual = embedding(graph, "model.embed_tokens", backbone.embed_tokens, model.lm_head, "lm_head", "input_ids")
    residual = _scale(graph, "model.embed_scaled", residual, config.embedding_scale)
    added = ""  # what the last attention or MLP said, not yet in the residual
    for number, block in enumerate(blocks):
        name = f"model.layers.{number}"
        x, residual = _enter(graph, f"{name}.input_layernorm", block.input_layernorm, residual, added)
        x = _attention(graph, f"{name}.self_attn", block.self_attn, x, number, layout)
        if block is blocks[-1] and layout.last_only:
            x, residual = _last_token(graph, x, f"{name}.last"), _last_token(graph, residual, f"{name}.last_residual")
        x = linear(graph, f"{name}.self_attn.o_proj", [block.self_attn.o_proj], x)
        added = _leave(graph, f"{name}.attention_output_norm", block.attention_output_norm, x, block.residual_scale)
        norm = block.post_attention_layernorm
        x, residual = _enter(graph, f"{name}.post_attention_layernorm", norm, residual, added)
        x = _mlp(graph, f"{name}.mlp", block.mlp, x, config.intermediate_size)
        added = _leave(graph, f"{name}.mlp_output_norm", block.mlp_output_norm, x, block.residual_scale)
    x, _ = _enter(graph, "model.norm", backbone.norm, residual, added)
    x = _scale(graph, "model.norm_scaled", x, 1 / config.logit_divisor)
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
    if config.qk_norm == "width":
        q, k = _norm(graph, f"{name}.q_norm", module.q_norm, q), _norm(graph, f"{name}.k_norm", module.k_norm, k)
    elif config.qk_norm == "head":
        q = _head_norm(graph, f"{name}.q_norm", module.q_norm, q, config.num_attention_heads)
        k = _head_norm(graph, f"{name}.k_norm", module.k_norm, k, config.num_key_value_heads)
    return layout.attend(layer, q, k, v)


def _mlp(graph: Graph, name: str, module: MLP, x: str, width: int) -> str:
    """A gated linear unit; gate and up are one product where their precision is the same."""
    if can_stack([module.gate_proj, module.up_proj]):
        both = linear(graph, f"{name}.gate_up_proj", [module.gate_proj, module.up_proj], x)
        gate, up = _split(graph, both, [width, width], [f"{name}.gate", f"{name}.up"])
    else:
        gate, up = (linear(graph, f"{name}.{key}_proj", [getattr(module, f"{key}_proj")], x) for key in ("gate", "up"))
    product = graph.node("Mul", [_activation(graph, name, module.activation, gate), up], f"{name}.product")
    return linear(graph, f"{name}.down_proj", [module.down_proj], product)


def _activation(graph: Graph, name: str, kind: Activation, x: str) -> str:
    """The trait's function, in the fewest nodes that ONNX Runtime has kernels for."""
    if kind in ("silu", "quick_gelu"):  # QuickGelu is x * sigmoid(alpha * x)
        return graph.node("QuickGelu", [x], f"{name}.{kind}", alpha={"silu": 1.0, "quick_gelu": 1.702}[kind])
    if kind in ("gelu", "gelu_tanh"):
        return graph.node("Gelu", [x], f"{name}.gelu", approximate={"gelu": "none", "gelu_tanh": "tanh"}[kind])
    positive = graph.node("Relu", [x], f"{name}.relu")
    return positive if kind == "relu" else graph.node("Mul", [positive, positive], f"{name}.relu2")


def _enter(graph: Graph, name: str, norm: nn.Module, residual: str, added: str) -> tuple[str, str]:
    """(norm(residual + added), residual + added); the sum itself where the family has no norm."""
    if isinstance(norm, RMSNorm) and added:
        return _add_norm(graph, name, norm, residual, added)
    if isinstance(norm, RMSNorm):
        return _norm(graph, name, norm, residual), residual
    total = graph.node("Add", [residual, added], f"{name}.sum") if added else residual
    return total, total


def _leave(graph: Graph, name: str, norm: nn.Module, x: str, scale: float) -> str:
    """What is added to the residual of attention's or the MLP's ``x``."""
    return _scale(graph, f"{name}.scaled", _norm(graph, name, norm, x) if isinstance(norm, RMSNorm) else x, scale)


def _scale(graph: Graph, name: str, x: str, scale: float) -> str:
    if scale == 1.0:
        return x
    return graph.node("Mul", [x, graph.constant(f"scale_{scale!r}", np.array(scale, np.float32))], name)


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
    merged = graph.constant("merged", MERGED)
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
