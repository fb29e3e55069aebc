"""The weights that rules can name, and the bytes that an artifact spends on them. Shapes only, no tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.recipes.export_recipe import ExportRecipe
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.recipes.targets import get_target

Shape = tuple[int, int]
"""(out, in)."""
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
FLOATS = QuantRule(match="*", bits=32)
"""What a weight is that no rule matches."""
COLOURS = 16
"""Of a 4-bit palette."""


@dataclass(frozen=True)
class DecoderSizes:
    """What the shapes of a decoder's weights follow from."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    attention_heads: int
    key_value_heads: int
    head_dim: int

    def shapes(self) -> dict[str, Shape]:
        """Module name -> shape of every linear and the embedding."""
        hidden, inner = self.hidden_size, self.intermediate_size
        queries, keys = self.attention_heads * self.head_dim, self.key_value_heads * self.head_dim
        layer = {
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        blocks = {f"model.layers.{n}.{name}": shape for n in range(self.layers) for name, shape in layer.items()}
        return {EMBEDDING: (self.vocab_size, hidden), **blocks, HEAD: (self.vocab_size, hidden)}


@dataclass(frozen=True)
class Storage:
    """Bytes of a ``scale`` and of a float in an artifact; whether a tied table under one rule is stored once."""

    scale: int
    number: int
    shares_table: bool


def storage_of(recipe: ExportRecipe) -> Storage:
    """How the artifact of ``recipe`` stores numbers."""
    target, number = get_target(recipe.target), recipe.float_bytes
    return Storage(target.scale_bytes or number, number, target.shares_table)


def weight_bytes(shape: Shape, rule: QuantRule, storage: Storage) -> int:
    """Bytes of a weight of ``shape`` under ``rule``: integers (or palette indices) and scales, or floats."""
    out, width = shape
    if rule.bits > 8:
        return out * width * storage.number
    scales = out // rule.group_size * COLOURS if rule.palette else out * (width // (rule.group_size or width))
    return -(-out * width * rule.bits // 8) + scales * storage.scale


def matched_bytes(shapes: Mapping[str, Shape], rules: Sequence[QuantRule], storage: Storage, tied: bool) -> int:
    """Bytes of those of ``shapes`` that ``rules`` match, each as its first rule says.

    A ``tied`` embedding and head under one rule count once where the artifact shares their table.
    """
    recipe = QuantRecipe(rules=tuple(rules))
    found = {name: rule for name in shapes if (rule := recipe.rule_for(name)) is not None}
    pair = [found[name].numbers for name in (EMBEDDING, HEAD) if name in found]
    if tied and storage.shares_table and len(pair) == 2 and pair[0] == pair[1]:
        del found[HEAD]
    return sum(weight_bytes(shapes[name], rule, storage) for name, rule in found.items())


def all_bytes(shapes: Mapping[str, Shape], recipe: ExportRecipe, tied: bool) -> int:
    """Bytes of every weight of ``shapes`` in the artifact of ``recipe``."""
    return matched_bytes(shapes, (*recipe.quantize.rules, FLOATS), storage_of(recipe), tied)
