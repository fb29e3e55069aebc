"""What one token costs an artifact: bytes read and operations done, counted from its bundle's manifest."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any, Literal

from edgekit.bundle.manifest import Manifest, ModelFacts
from edgekit.errors import EdgekitError

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
    facts = manifest.model
    matrices = layer_matrices(facts)
    hidden, vocabulary = facts.hidden_size, facts.vocab_size
    half = manifest.target == "coreml" or manifest.recipe.get("compute") == "float16"
    blocks = facts.layers * sum(_stored(manifest, name, out * width, half) for name, (out, width) in matrices.items())
    head = _stored(manifest, "lm_head", vocabulary * hidden, half)
    embedding = _stored(manifest, "model.embed_tokens", vocabulary * hidden, half)
    prefix = manifest.artifact
    artifact = sum(entry.size for name, entry in manifest.files.items() if name.startswith(prefix))
    # Whether a tied embedding is stored beside the head is the target's business: the file's size tells.
    apart = not facts.tied_embeddings or artifact - (blocks + head) > embedding / 2
    weights = facts.layers * sum(out * width for out, width in matrices.values())
    heads, kv_heads, dim = (facts.attention_heads or 0), (facts.key_value_heads or 0), (facts.head_dim or 0)
    return Workload(
        layers=facts.layers,
        artifact_bytes=artifact,
        weight_bytes=max(artifact - embedding, blocks) if apart else artifact,
        head_bytes=head,
        cache_bytes=facts.layers * 2 * kv_heads * dim * (2 if half else 4),
        layer_operations=2 * weights,
        head_operations=2 * vocabulary * hidden,
        attention_operations=facts.layers * 4 * heads * dim,
        arithmetic=_arithmetic(manifest, half),
        context_length=facts.context_length,
        chunk=facts.prefill_chunk if manifest.target == "coreml" else facts.context_length,
        repacked=manifest.target == "executorch",
    )


def layer_matrices(facts: ModelFacts) -> dict[str, tuple[int, int]]:
    """Module name under a layer's rule -> (out, in) of each matrix of one layer.

    Raises :class:`EdgekitError` if the manifest does not have the sizes.
    """
    sizes = (facts.intermediate_size, facts.attention_heads, facts.key_value_heads, facts.head_dim)
    if None in sizes:
        raise EdgekitError(
            "no estimate: this bundle's manifest lacks the sizes of its layers. It was made before they were "
            "recorded. Export it again."
        )
    inner, heads, kv_heads, dim = (size or 0 for size in sizes)
    hidden = facts.hidden_size
    shapes = {
        "self_attn.q_proj": (heads * dim, hidden),
        "self_attn.k_proj": (kv_heads * dim, hidden),
        "self_attn.v_proj": (kv_heads * dim, hidden),
        "self_attn.o_proj": (hidden, heads * dim),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    # a middle layer stands for all: first and last may have rules of their own
    return {f"model.layers.{facts.layers // 2}.{name}": shape for name, shape in shapes.items()}


def _rule(manifest: Manifest, name: str) -> dict[str, Any]:
    rules = manifest.recipe.get("quantize", {}).get("rules", [])
    unmatched = {"bits": 16 if manifest.recipe.get("compute") == "float16" else 32, "group_size": 0}
    return next((rule for rule in rules if fnmatch.fnmatchcase(name, rule["match"])), unmatched)


def _stored(manifest: Manifest, name: str, weights: int, half: bool) -> int:
    """Bytes of a matrix of ``weights`` numbers under its rule; scales of two bytes (four in ONNX)."""
    rule = _rule(manifest, name)
    bits, group = rule["bits"], rule.get("group_size") or 0
    if bits >= 16:
        return weights * (2 if half else bits // 8)
    scale = 4 if manifest.target == "onnx" else 2
    return weights * bits // 8 + (weights // group * scale if group else 0)


def _arithmetic(manifest: Manifest, half: bool) -> Arithmetic:
    quantized = _rule(manifest, f"model.layers.{manifest.model.layers // 2}.mlp.up_proj")["bits"] <= 8
    if quantized and manifest.recipe.get("quantize", {}).get("activations", "float") != "float":
        return "int8"
    return "float16" if half else "float32"
