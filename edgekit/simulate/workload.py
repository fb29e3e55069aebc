"""What one token costs an artifact: bytes read and operations done, counted from its bundle's manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgekit.bundle.manifest import Manifest, ModelFacts
from edgekit.errors import EdgekitError
from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.targets import get_target
from edgekit.recipes.weights import EMBEDDING, FLOATS, HEAD, DecoderSizes, storage_of, weight_bytes

Arithmetic = Literal["int8", "float16", "float32"]


@dataclass(frozen=True)
class Workload:
    """Counts of one artifact. Bytes are what a step must read at least once, operations are multiplies plus adds."""

    layers: int
    artifact_bytes: int
    weight_bytes: int
    """Read in each step: the whole artifact but a stored-apart embedding, of which a step reads one row."""
    head_bytes: int
    """The head's part of ``weight_bytes``."""
    cache_bytes: int
    """Read and kept per position of the context, all layers."""
    layer_operations: int
    """Per token, all layers' matrices."""
    head_operations: int
    """Once per step: a prompt needs the head at its last token only."""
    attention_operations: int
    """Per token and position it looks back on, all layers."""
    arithmetic: Arithmetic
    """What the layers' matrix products are computed in."""
    context_length: int
    chunk: int
    """Prompt tokens that one step takes."""
    repacked: bool
    """Whether the runtime keeps its own copy of the weights beside the file."""


def count_workload(manifest: Manifest) -> Workload:
    """Count for the bundle of ``manifest``. Raises :class:`EdgekitError` for a bundle that lacks its layer sizes."""
    facts, recipe, target = manifest.model, manifest.export_recipe(), get_target(manifest.target)
    sizes, storage = decoder_sizes(facts), storage_of(recipe)
    shapes = sizes.shapes()
    rules = {name: recipe.quantize.rule_for(name) or FLOATS for name in shapes}
    stored = {name: weight_bytes(shape, rules[name], storage) for name, shape in shapes.items()}
    blocks = sum(size for name, size in stored.items() if name not in (EMBEDDING, HEAD))
    artifact = manifest.artifact_bytes
    one_table = facts.tied_embeddings and target.shares_table and rules[EMBEDDING].numbers == rules[HEAD].numbers
    weights = sum(out * width for name, (out, width) in shapes.items() if name not in (EMBEDDING, HEAD))
    number = target.cache_bytes if recipe.quantize.cache == "float" else 1
    return Workload(
        layers=facts.layers,
        artifact_bytes=artifact,
        weight_bytes=artifact if one_table else max(artifact - stored[EMBEDDING], blocks),
        head_bytes=stored[HEAD],
        cache_bytes=facts.layers * 2 * sizes.key_value_heads * sizes.head_dim * number,
        layer_operations=2 * weights,
        head_operations=2 * sizes.vocab_size * sizes.hidden_size,
        attention_operations=facts.layers * 4 * sizes.attention_heads * sizes.head_dim,
        arithmetic=_arithmetic(recipe, facts.layers),
        context_length=facts.context_length,
        chunk=facts.prefill_chunk if target.chunked else facts.context_length,
        repacked=target.repacks,
    )


def decoder_sizes(facts: ModelFacts) -> DecoderSizes:
    """The sizes that a manifest records. Raises :class:`EdgekitError` if it does not have those of the layers."""
    inner, heads, kv_heads, dim = (
        facts.intermediate_size,
        facts.attention_heads,
        facts.key_value_heads,
        facts.head_dim,
    )
    if inner is None or heads is None or kv_heads is None or dim is None:
        raise EdgekitError(
            "no estimate: this bundle's manifest lacks the sizes of its layers. It was made before they were "
            "recorded. Export it again."
        )
    return DecoderSizes(facts.vocab_size, facts.hidden_size, inner, facts.layers, heads, kv_heads, dim)


def _arithmetic(recipe: ExportRecipe, layers: int) -> Arithmetic:
    """What most of the layers' products are computed in: a middle layer's stand for all."""
    rule = recipe.quantize.rule_for(f"model.layers.{layers // 2}.mlp.up_proj") or FLOATS
    if rule.bits <= 8 and recipe.quantize.activations != "float":
        return "int8"
    return recipe.compute
