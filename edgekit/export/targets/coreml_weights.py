"""Weights of a Core ML program: packed once, stored once, whichever functions and operations read them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.policy.model import Block, PolicyModel
from edgekit.quantize.integers import QuantizedEmbedding, QuantizedLinear
from edgekit.quantize.palette import PalettizedEmbedding, PalettizedLinear

Array = NDArray[Any]


@dataclass(frozen=True)
class Stored:
    """Numbers of the weights file. Equal ``key`` means equal numbers of one type."""

    array: Array
    key: str


@dataclass(frozen=True)
class PackedWeight:
    """A matrix (out, in): the ``operation`` that yields it in the program, and that operation's stored inputs."""

    operation: str
    inputs: dict[str, Stored]

    @property
    def key(self) -> str:
        """Equal for equal matrices."""
        return "".join(stored.key for stored in self.inputs.values())


@dataclass(frozen=True)
class PackedLinear:
    """Linears over one input, side by side: their matrices (one, or several that cannot be joined) and biases."""

    weights: tuple[PackedWeight, ...]
    biases: tuple[Array, ...]


def store(array: Array, code: str = "") -> Stored:
    """``array`` ready for the weights file; ``code`` tells apart equal bytes of different types."""
    flat = np.ascontiguousarray(array)
    digest = hashlib.blake2b(flat.reshape(-1).view(np.uint8).data, digest_size=16)
    digest.update(f"{code}{array.dtype.name}{array.shape}".encode())
    return Stored(array, digest.hexdigest())


def pack_linear(modules: Sequence[nn.Module], half: bool) -> PackedLinear:
    """Pack linears that read the same input (q, k, v; gate, up) into one matrix where their kinds allow."""
    groups: list[list[nn.Module]] = []
    for module in modules:
        if groups and _kind(groups[-1][0]) == _kind(module):
            groups[-1].append(module)
        else:
            groups.append([module])
    biases = tuple(_floats(torch.cat([_bias(module) for module in group]), half) for group in groups)
    return PackedLinear(tuple(_pack(group, half) for group in groups), biases)


def pack_embedding(module: nn.Module, half: bool) -> PackedWeight:
    """Pack an embedding's table (vocab, width)."""
    return _pack([module], half)


def _kind(module: nn.Module) -> tuple[object, ...]:
    """Modules of one kind can stand in one matrix."""
    if isinstance(module, QuantizedLinear | QuantizedEmbedding):
        return ("integers", module.bits, module.scales.shape[1])
    if isinstance(module, PalettizedLinear | PalettizedEmbedding):
        return ("palette", module.indices.shape[0] // module.table.shape[0])
    return ("floats",)


def _bias(module: nn.Module) -> Tensor:
    """The bias, or the zeros it stands for."""
    tensor = getattr(module, {"integers": "values", "palette": "indices", "floats": "weight"}[str(_kind(module)[0])])
    bias = getattr(module, "bias", None)
    return torch.zeros(tensor.shape[0]) if bias is None else bias


def _pack(modules: Sequence[nn.Module], half: bool) -> PackedWeight:
    """One matrix of modules of one kind, output rows one below the other."""
    from coremltools.converters.mil.mil import types

    def joined(name: str) -> Tensor:
        parts = [getattr(module, name).detach() for module in modules]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    kind = _kind(modules[0])
    if kind[0] == "integers":
        values = joined("values").numpy()
        data = store(values, "int4" if kind[1] == 4 else "int8")
        if kind[1] == 4:
            data = Stored(values.view(types.np_int4_dtype), data.key)
        scale = store(_floats(joined("scales"), half))
        return PackedWeight("constexpr_blockwise_shift_scale", {"data": data, "scale": scale})
    if kind[0] == "palette":
        indices = joined("indices").numpy()
        table = _floats(joined("table"), half)[:, None, :, None]  # (groups, 1 along inputs, 16, 1 a number)
        stored = Stored(indices.view(types.np_uint4_dtype), store(indices, "uint4").key)
        return PackedWeight("constexpr_lut_to_dense", {"indices": stored, "lut": store(table)})
    return PackedWeight("const", {"val": store(_floats(joined("weight"), half))})


def _floats(tensor: Tensor, half: bool) -> Array:
    tensor = tensor.detach()
    array: Array = (tensor.half() if half else tensor.float()).numpy()
    return array


class Constants:
    """The constants of one function being built: each distinct one is one operation.

    coremltools stores constants of equal ``weight_id`` once, across functions too.
    """

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def array(self, value: Any) -> Any:
        """A small constant, or a vector."""
        return self._stored(store(np.asarray(value)))

    def weight(self, packed: PackedWeight, name: str) -> Any:
        """The matrix ``packed`` stands for; ``name`` is what the program calls it."""
        from coremltools.converters.mil import Builder

        if packed.operation == "const":
            return self._stored(packed.inputs["val"])
        if packed.key not in self._made:
            inputs = {parameter: self._stored(stored) for parameter, stored in packed.inputs.items()}
            self._made[packed.key] = getattr(Builder, packed.operation)(**inputs, name=name)
        return self._made[packed.key]

    def _stored(self, stored: Stored) -> Any:
        from coremltools.converters.mil import Builder

        if stored.key not in self._made:
            made = Builder.const(val=stored.array[()], name=f"c{len(self._made)}")
            made.op.weight_id = stored.key
            self._made[stored.key] = made
        return self._made[stored.key]


def blocks(model: PolicyModel) -> list[Block]:
    """The layers, typed."""
    return cast("list[Block]", list(model.model.layers))


class DecoderWeights:
    """Every matrix of ``model`` packed for Core ML, shared by all functions."""

    def __init__(self, model: PolicyModel, half: bool) -> None:
        self.embedding = pack_embedding(model.model.embed_tokens, half)
        self.head = pack_linear([model.lm_head], half)
        self.layers: list[dict[str, PackedLinear]] = []
        for block in blocks(model):
            attention, mlp = block.self_attn, block.mlp
            named: dict[str, list[nn.Module]] = {
                "qkv": [attention.q_proj, attention.k_proj, attention.v_proj],
                "o": [attention.o_proj],
                "gate_up": [mlp.gate_proj, mlp.up_proj],
                "down": [mlp.down_proj],
            }
            self.layers.append({name: pack_linear(modules, half) for name, modules in named.items()})
