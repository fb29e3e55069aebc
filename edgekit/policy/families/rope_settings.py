"""The rotary settings of a config.json as a :class:`Rope`, and back.

transformers 4 keeps the base in rope_theta and the rest in rope_scaling; transformers 5 keeps all in rope_parameters,
one mapping or one for each kind of layer. Formulas and defaults are transformers' (modeling_rope_utils).
"""

from __future__ import annotations

import math
from typing import Any

from edgekit.policy.families.settings import LARGEST, Settings, same, shown
from edgekit.policy.rope import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    Rope,
    Scaling,
    YarnScaling,
    frequencies,
)
from edgekit.record_lines import is_number

KEYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        "factor", "original_max_position_embeddings", "attention_factor", "mscale", "mscale_all_dim", "beta_fast",
        "beta_slow", "truncate",
    ),
    "longrope": ("short_factor", "long_factor", "factor", "attention_factor", "original_max_position_embeddings"),
}  # fmt: skip
"""What each kind of scaling reads."""
KNOWN = {"rope_type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"}
"""Keys that may stand beside them."""
TOLD_OUTSIDE = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
"""Keys that may stand in config.json itself too, with the same value."""
LARGEST_AMPLITUDE = 1e4
"""Published models have less than 2."""

WRITTEN: dict[type[Scaling], tuple[str, dict[str, str]]] = {
    LinearScaling: ("linear", {"factor": "factor"}),
    DynamicScaling: ("dynamic", {"factor": "factor"}),
    Llama3Scaling: (
        "llama3",
        {
            "factor": "factor",
            "low_frequency_factor": "low_freq_factor",
            "high_frequency_factor": "high_freq_factor",
            "original_length": "original_max_position_embeddings",
        },
    ),
    YarnScaling: (
        "yarn",
        {
            "factor": "factor",
            "original_length": "original_max_position_embeddings",
            "attention_factor": "attention_factor",
            "fast_turns": "beta_fast",
            "slow_turns": "beta_slow",
            "truncate": "truncate",
        },
    ),
    LongRopeScaling: (
        "longrope",
        {"short": "short_factor", "long": "long_factor", "attention_factor": "attention_factor"},
    ),
}
"""The name of each kind of scaling, and its fields by the keys they are written under."""


def one_rope(settings: Settings, head_dim: int) -> tuple[Rope, ...]:
    """The rotary positions of a family that has one kind of them and turns whole heads."""
    return (read_rope(rotary_keys(settings), settings, head_dim),)


def rotary_keys(settings: Settings, layer_type: str | None = None) -> dict[str, Any]:
    """rope_theta, rope_scaling's and rope_parameters' keys in one, those of ``layer_type`` where it has its own."""
    old, new = settings.get("rope_scaling") or {}, settings.get("rope_parameters") or {}
    theta = settings.get("rope_theta")
    if isinstance(new, dict) and layer_type in new:
        new = new[layer_type]
    if not isinstance(old, dict) or not isinstance(new, dict):
        settings.fault("rope_scaling and rope_parameters are objects, or null")
        return {}
    if any(each.get("type") not in (None, each.get("rope_type", each.get("type"))) for each in (old, new)):
        settings.fault("type and rope_type of one rope scaling contradict each other")
    old, new = _by_one_name(old), _by_one_name(new)
    if any(new.get(key, value) != value for key, value in old.items()):
        settings.fault("rope_scaling and rope_parameters contradict each other")
    for key in TOLD_OUTSIDE if layer_type in (None, "full_attention") else ():
        stated = settings.data.get(key)
        if stated is not None and any(not same(each.get(key, stated), stated) for each in (old, new)):
            settings.fault(f"{key} {shown(stated)} is not what stands beside it")
    return {key: value for key, value in {"rope_theta": theta, **old, **new}.items() if value is not None}


def _by_one_name(keys: dict[str, Any]) -> dict[str, Any]:
    """``keys`` with the kind of scaling under rope_type, which older files call type."""
    kind = {"rope_type": keys["type"]} if "type" in keys else {}
    return kind | {key: value for key, value in keys.items() if key != "type"}


def read_rope(keys: dict[str, Any], settings: Settings, head_dim: int, share: float = 1.0) -> Rope:
    """Rotary positions by their ``keys``, of the given ``share`` of each head. Notes a fault for what is not known."""
    kind = keys.get("rope_type") or "default"
    if not isinstance(kind, str) or kind not in KEYS:
        settings.fault(f"rope scaling {kind} is none of {', '.join(KEYS)}")
        return Rope()
    unknown = sorted(set(keys) - KNOWN - set(KEYS[kind]))
    if unknown:
        settings.fault(f"rope scaling {kind} has the unknown {', '.join(unknown)}")
    if keys.get("partial_rotary_factor", share) != share:
        settings.fault(f"partial_rotary_factor {keys['partial_rotary_factor']} is not computed")
    known_length = settings.get("original_max_position_embeddings")
    try:
        dims = int(head_dim * share)
        if dims % 2 or not 0 < dims <= head_dim:
            raise ValueError(f"{dims} of {head_dim} channels turn")
        scaling = _scaling(kind, keys, settings.size("max_position_embeddings"), known_length)
        if isinstance(scaling, LongRopeScaling) and not len(scaling.short) == len(scaling.long) == dims // 2:
            raise ValueError(f"{len(scaling.short)} and {len(scaling.long)} factors for {dims // 2} pairs of channels")
        rope = Rope(_positive(keys.get("rope_theta", 10_000.0)), None if dims == head_dim else dims, scaling)
        _check_computable(rope, dims, settings.size("max_position_embeddings"))
        return rope
    except (KeyError, TypeError, ValueError) as error:
        settings.fault(f"rope scaling {kind}: {f'it lacks {error}' if isinstance(error, KeyError) else error}")
        return Rope()


def _scaling(kind: str, keys: dict[str, Any], positions: int, known_length: int | None) -> Scaling | None:
    if kind == "default":
        return None
    if kind == "longrope":
        return _longrope(keys, positions, known_length or keys.get("original_max_position_embeddings"))
    factor, original = _positive(keys["factor"]), _length(keys.get("original_max_position_embeddings") or positions)
    if kind == "linear":
        return LinearScaling(factor)
    if kind == "dynamic":
        return DynamicScaling(factor, positions)
    if kind == "llama3":
        low, high = _positive(keys["low_freq_factor"]), _positive(keys["high_freq_factor"])
        if low > high:
            raise ValueError(f"low_freq_factor {low:g} is above high_freq_factor {high:g}")
        return Llama3Scaling(factor, low, high, _length(keys["original_max_position_embeddings"]))
    if known_length not in (None, original):  # transformers 4 reads it inside the scaling only, 5 outside too
        raise ValueError(f"original_max_position_embeddings {shown(known_length)} stands outside it only")
    if not isinstance(keys.get("truncate", True), bool):
        raise ValueError(f"truncate {keys['truncate']} is neither true nor false")
    one, all_dims = (value and _positive(value) for value in (keys.get("mscale"), keys.get("mscale_all_dim")))
    inferred = _yarn_amplitude(factor, one) / _yarn_amplitude(factor, all_dims) if one and all_dims else None
    return YarnScaling(
        factor,
        original,
        _positive(keys.get("attention_factor") or inferred or _yarn_amplitude(factor, 1.0)),
        _positive(keys.get("beta_fast") or 32.0),
        _positive(keys.get("beta_slow") or 1.0),
        keys.get("truncate", True),
    )


def _longrope(keys: dict[str, Any], positions: int, original: Any) -> LongRopeScaling:
    """``original``, the context of the first training, gives the factor where it is known."""
    length = _length(original or positions)
    factor = positions / length if original else _positive(keys["factor"])
    if "attention_factor" not in keys and not math.isclose(_positive(keys.get("factor", factor)), factor):
        raise ValueError(f"factor {shown(keys['factor'])} is not {factor:g}, as the two lengths have it")
    inferred = math.sqrt(1 + math.log(factor) / math.log(length)) if factor > 1 else 1.0
    short, long = (tuple(map(_positive, keys[f"{which}_factor"])) for which in ("short", "long"))
    return LongRopeScaling(short, long, length, _positive(keys.get("attention_factor", inferred)))


def _check_computable(rope: Rope, dims: int, positions: int) -> None:
    """Raise ValueError for numbers that are numbers each by itself, and together give no angle."""
    try:
        found = [frequencies(rope, dims, length) for length in (1, positions)]
    except (ArithmeticError, ValueError):
        found = []
    finite = all((turns * positions).isfinite().all() and size < LARGEST_AMPLITUDE for turns, size in found)
    if not found or not finite:
        raise ValueError("its numbers give no angles")


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not is_number(value) or value <= 0:
        raise ValueError(f"{shown(value)} is not a number above 0")
    return float(value)


def _length(value: Any) -> int:
    """Positions of a first training; logarithms are divided by that of its length."""
    number = _positive(value)
    if not 2 <= number <= LARGEST or not number.is_integer():
        raise ValueError(f"{shown(value)} is not a length")
    return int(number)


def _yarn_amplitude(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0


def rope_settings(rope: Rope) -> dict[str, Any]:
    """``rope`` as transformers 4 writes it: rope_theta, and rope_scaling and what belongs to it if it is scaled."""
    if rope.scaling is None:
        return {"rope_theta": rope.theta}
    kind, fields = WRITTEN[type(rope.scaling)]
    values = {key: getattr(rope.scaling, field) for field, key in fields.items()}
    written = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    settings = {"rope_theta": rope.theta, "rope_scaling": {"rope_type": kind, **written}}
    if isinstance(rope.scaling, LongRopeScaling):
        settings["original_max_position_embeddings"] = rope.scaling.original_length
    return settings
