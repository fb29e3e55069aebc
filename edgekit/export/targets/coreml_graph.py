"""The policy's decoder written in Core ML's own operations, one function for each number of tokens a call.

Written here instead of traced: translating a traced program takes coremltools half a minute a function on
a model of 30 layers, this takes two seconds for both. Grouped queries attend as rows beside one another,
so the cache is never repeated for them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.export.targets.coreml_weights import Constants, DecoderWeights, PackedLinear, PackedWeight, blocks
from edgekit.policy.model import Attention, Block, PolicyModel, RMSNorm
from edgekit.policy.traits import Activation, LayerTraits
from edgekit.recipes.export_recipe import ExportRecipe

GELU_MODES: dict[Activation, str] = {
    "gelu": "EXACT",
    "gelu_tanh": "TANH_APPROXIMATION",
    "quick_gelu": "SIGMOID_APPROXIMATION",
}


class DecoderGraph:
    """Builds the function token_ids (1, T) int32, position (1,) int32 -> logits (1, vocab) float32.

    Its states are key_0, value_0, key_1, ... (1, kv_heads, context_length, head_dim) float16.
    """

    def __init__(self, model: PolicyModel, weights: DecoderWeights, recipe: ExportRecipe, tokens: int) -> None:
        from coremltools.converters.mil import Builder

        self.model, self.config, self.weights = model, model.config, weights
        self.tokens, self.context = tokens, recipe.context_length
        self.half = recipe.compute == "float16"
        self.constants = Constants()
        self.mb: Any = Builder

    def build(self) -> Any:
        """The coremltools Function."""
        import coremltools as ct
        from coremltools.converters.mil.mil import Function, types

        config = self.config
        cache = (1, config.num_key_value_heads, self.context, config.head_dim)
        inputs = {
            "token_ids": self.mb.TensorSpec(shape=(1, self.tokens), dtype=types.int32),
            "position": self.mb.TensorSpec(shape=(1,), dtype=types.int32),
        }
        for layer in range(config.num_hidden_layers):
            inputs[f"key_{layer}"] = self.mb.StateTensorSpec(shape=cache, dtype=types.fp16)
            inputs[f"value_{layer}"] = self.mb.StateTensorSpec(shape=cache, dtype=types.fp16)
        with Function(inputs, opset_version=ct.target.iOS18) as function:
            given = function.inputs
            self._prepare(given["position"])
            x = self.mb.gather(
                x=self._matrix(self.weights.embedding, "embedding"),
                indices=given["token_ids"],
                axis=self._constant(0),
                batch_dims=self._constant(0),
                validate_indices=self._constant(False),
            )
            x = self._scaled(self._wide(x), config.embedding_scale)
            for layer, block in enumerate(blocks(self.model)):
                x = self._block(x, block, layer, given[f"key_{layer}"], given[f"value_{layer}"])
            function.set_outputs([self._logits(x)])
        return function

    def _prepare(self, position: Any) -> None:
        """What every layer shares: the rope rows, the attention mask and the place in the cache."""
        tokens, config = self.tokens, self.config
        positions = self.mb.add(x=position, y=self._constant(np.arange(tokens, dtype=np.int32)))
        self.rotations = [self._rotation(index, positions) for index in range(len(config.ropes))]

        groups = config.num_attention_heads // config.num_key_value_heads
        offsets = np.tile(np.arange(tokens, dtype=np.int32), groups).reshape(1, 1, -1, 1)
        slots = self._constant(np.arange(self.context, dtype=np.int32).reshape(1, 1, 1, -1))
        last_seen = self.mb.add(x=position, y=self._constant(offsets))
        seen = self.mb.less_equal(x=slots, y=last_seen)
        self.masks: dict[int | None, Any] = {None: seen}  # (1, 1, groups * T, S) each, by window
        for window in sorted({window for window in map(self._window, config.layers) if window is not None}):
            too_far = self.mb.sub(x=last_seen, y=self._constant(np.int32(window)))
            near = self.mb.greater(x=slots, y=too_far)
            self.masks[window] = self.mb.logical_and(x=seen, y=near)

        zero, zeros = self._constant(np.zeros(1, np.int32)), self._constant(np.zeros(2, np.int32))
        end = self.mb.add(x=position, y=self._constant(np.array([tokens], np.int32)))
        self.begin = self._concat([zeros, position, zero], 0)
        self.end = self._concat([zeros, end, zero], 0)

    def _rotation(self, rope: int, positions: Any) -> tuple[Any, Any]:
        """cos and sin (1, 1, T, turning channels) of one of the model's ropes; sin with the sign of each half."""
        pairs = (self.config.ropes[rope].dims or self.config.head_dim) // 2
        rows = []
        for table in self.model.tables(rope):
            stored = self._constant(self._floats(table[: self.context, :pairs][None, None]))
            rows.append(
                self.mb.gather(
                    x=stored,
                    indices=positions,
                    axis=self._constant(2),
                    batch_dims=self._constant(0),
                    validate_indices=self._constant(False),
                )
            )
        cos, sin = rows  # (1, 1, T, pairs)
        cos = self._concat([cos, cos], -1)
        return cos, self._concat([self.mb.mul(x=sin, y=self._constant(self._number(-1))), sin], -1)

    def _window(self, traits: LayerTraits) -> int | None:
        """The layer's window, if the context is longer."""
        return None if traits.window is None or traits.window >= self.context else traits.window

    def _block(self, x: Any, block: Block, layer: int, key_state: Any, value_state: Any) -> Any:
        packed = self.weights.layers[layer]
        normed = self._norm(x, block.input_layernorm)
        context = self._attention(normed, block.self_attn, layer, key_state, value_state)
        said = self._linear(context, packed["o"], f"l{layer}_o")
        x = self.mb.add(x=x, y=self._leave(said, block.attention_output_norm))
        normed = self._norm(x, block.post_attention_layernorm)
        gate, up = self._two(normed, packed["gate_up"], f"l{layer}_gate_up")
        inner = self.mb.mul(x=self._activation(gate), y=up)
        said = self._linear(inner, packed["down"], f"l{layer}_down")
        return self.mb.add(x=x, y=self._leave(said, block.mlp_output_norm))

    def _leave(self, x: Any, norm: nn.Module) -> Any:
        """What is added to the residual of attention's or the MLP's ``x``, float32."""
        x = self._wide(x)
        if isinstance(norm, RMSNorm):
            x = self._rms(x, norm.weight, norm.eps)
        return self._scaled(x, self.config.residual_scale)

    def _activation(self, x: Any) -> Any:
        kind = self.config.activation
        if kind == "silu":
            return self.mb.silu(x=x)
        if kind in GELU_MODES:
            return self.mb.gelu(x=x, mode=self._constant(GELU_MODES[kind]))
        positive = self.mb.relu(x=x)
        return positive if kind == "relu" else self.mb.mul(x=positive, y=positive)

    def _attention(self, x: Any, attention: Attention, layer: int, key_state: Any, value_state: Any) -> Any:
        tokens, dim = self.tokens, self.config.head_dim
        heads, kv_heads = self.config.num_attention_heads, self.config.num_key_value_heads
        groups = heads // kv_heads
        qkv = self._linear(x, self.weights.layers[layer]["qkv"], f"l{layer}_qkv")
        if self.config.qk_norm == "width":
            query, key, value = self._split(qkv, [heads * dim, kv_heads * dim, kv_heads * dim], -1)
            query, key = self._norm(self._wide(query), attention.q_norm), self._norm(self._wide(key), attention.k_norm)
            qkv = self._concat([query, key, value], -1)
        qkv = self._heads(qkv, heads + 2 * kv_heads)
        rotated, value = self._split(qkv, [heads + kv_heads, kv_heads], 1)
        if self.config.qk_norm == "head":
            rotated = self._norm_heads(rotated, attention, heads, kv_heads)
        if attention.traits.rope is not None:
            rotated = self._rotate(rotated, attention.traits.rope)
        query, key = self._split(rotated, [heads, kv_heads], 1)
        query = self._scaled(query, self.config.query_scale)
        context = self.mb.scaled_dot_product_attention(
            query=self._reshape(query, (1, kv_heads, groups * tokens, dim)),
            key=self._write(key_state, key),
            value=self._write(value_state, value),
            attn_mask=self.masks[self._window(attention.traits)],
        )
        if tokens > 1:
            context = self._reshape(context, (1, heads, tokens, dim))
            context = self.mb.transpose(x=context, perm=self._constant(np.array([0, 2, 1, 3], np.int32)))
        return self._reshape(context, (1, tokens, heads * dim))

    def _rotate(self, x: Any, rope: int) -> Any:
        """x (1, heads, T, D) with the channels turned that the rope turns, its first ones."""
        (cos, sin), dim = self.rotations[rope], self.config.head_dim
        dims = self.config.ropes[rope].dims or dim
        rest = []
        if dims < dim:
            x, *rest = self._split(x, [dims, dim - dims], -1)
        low, high = self._split(x, [dims // 2, dims // 2], -1)
        turned = self.mb.mul(x=self._concat([high, low], -1), y=sin)
        x = self.mb.add(x=self.mb.mul(x=x, y=cos), y=turned)
        return self._concat([x, *rest], -1) if rest else x

    def _heads(self, x: Any, count: int) -> Any:
        """(1, T, count * D) -> (1, count, T, D)."""
        dim = self.config.head_dim
        if self.tokens == 1:
            return self._reshape(x, (1, count, 1, dim))
        x = self._reshape(x, (1, self.tokens, count, dim))
        return self.mb.transpose(x=x, perm=self._constant(np.array([0, 2, 1, 3], np.int32)))

    def _write(self, state: Any, new: Any) -> Any:
        """Put new (1, K, T, D) into the cache; returns the whole cache, in the type the program computes in."""
        whole = self._constant(np.array([True, True, False, True]))
        updated = self.mb.slice_update(
            x=self.mb.read_state(input=state),
            update=new if self.half else self.mb.cast(x=new, dtype="fp16"),
            begin=self.begin,
            end=self.end,
            begin_mask=whole,
            end_mask=whole,
        )
        cache = self.mb.coreml_update_state(state=state, value=updated)
        return cache if self.half else self.mb.cast(x=cache, dtype="fp32")

    def _logits(self, x: Any) -> Any:
        """Logits of the last of T tokens."""
        config = self.config
        if self.tokens > 1:
            x = self._split(x, [self.tokens - 1, 1], 1)[1]
        x = self._norm(x, self.model.model.norm, 1 / config.logit_divisor)
        logits = self._linear(x, self.weights.head, "head")
        logits = self._reshape(logits, (1, config.vocab_size), *([] if self.half else ["logits"]))
        return self.mb.cast(x=logits, dtype="fp32", name="logits") if self.half else logits

    def _norm(self, x: Any, norm: nn.Module, scale: float = 1.0) -> Any:
        """What a linear reads of x, float32: the norm of it, or x itself where the family has no norm."""
        if isinstance(norm, RMSNorm):
            x = self._rms(x, norm.weight, norm.eps)
        return self._narrow(self._scaled(x, scale))

    def _norm_heads(self, x: Any, attention: Attention, heads: int, kv_heads: int) -> Any:
        """Qwen3's norms of each head of q and k (1, H + K, T, D), in one."""
        weight = torch.cat([attention.q_norm.weight.expand(heads, -1), attention.k_norm.weight.expand(kv_heads, -1)])
        return self._narrow(self._rms(self._wide(x), weight[None, :, None], attention.q_norm.eps))

    def _rms(self, x: Any, weight: Tensor, eps: float) -> Any:
        """RMSNorm of the last axis of x, float32.

        The residual and the norms stay float32 in a float16 program: real models carry tens of thousands in
        a channel of the first token, whose square is infinite in float16 and would make the norm zero.
        """
        last, keep = self._constant(np.array([-1], np.int32)), self._constant(True)
        mean = self.mb.reduce_mean(x=self.mb.mul(x=x, y=x), axes=last, keep_dims=keep)
        scaled = self.mb.mul(x=x, y=self.mb.rsqrt(x=mean, epsilon=self._constant(np.float32(eps))))
        return self.mb.mul(x=scaled, y=self._constant(weight.detach().float().numpy()))

    def _scaled(self, x: Any, scale: float) -> Any:
        """x times ``scale``, in its own type."""
        if scale == 1.0:
            return x
        number = np.float16(scale) if self.half and x.dtype.__name__ == "fp16" else np.float32(scale)
        return self.mb.mul(x=x, y=self._constant(number))

    def _narrow(self, x: Any) -> Any:
        return self.mb.cast(x=x, dtype="fp16") if self.half else x

    def _wide(self, x: Any) -> Any:
        return self.mb.cast(x=x, dtype="fp32") if self.half else x

    def _two(self, x: Any, packed: PackedLinear, name: str) -> Any:
        """The outputs of gate and up, equally wide, from one matrix or from two."""
        outputs = self._linears(x, packed, name)
        return outputs if len(outputs) == 2 else self._split(outputs[0], [self.config.intermediate_size] * 2, -1)

    def _linear(self, x: Any, packed: PackedLinear, name: str) -> Any:
        """The outputs side by side."""
        outputs = self._linears(x, packed, name)
        return outputs[0] if len(outputs) == 1 else self._concat(outputs, -1)

    def _linears(self, x: Any, packed: PackedLinear, name: str) -> list[Any]:
        outputs = []
        for number, (weight, bias) in enumerate(zip(packed.weights, packed.biases, strict=True)):
            matrix = self._matrix(weight, name if number == 0 else f"{name}_{number}")
            # Named even where it is zero: left out, coremltools would store zeros of its own for every linear.
            outputs.append(self.mb.linear(x=x, weight=matrix, bias=self._constant(bias)))
        return outputs

    def _matrix(self, weight: PackedWeight, name: str) -> Any:
        return self.constants.weight(weight, name)

    def _constant(self, value: Any) -> Any:
        return self.constants.array(value)

    def _floats(self, tensor: Tensor) -> Any:
        return (tensor.half() if self.half else tensor.float()).numpy()

    def _number(self, value: float) -> Any:
        return np.float16(value) if self.half else np.float32(value)

    def _concat(self, values: list[Any], axis: int) -> Any:
        return self.mb.concat(values=values, axis=self._constant(np.int32(axis)), interleave=self._constant(False))

    def _split(self, x: Any, sizes: list[int], axis: int) -> Any:
        return self.mb.split(
            x=x, split_sizes=self._constant(np.array(sizes, np.int32)), axis=self._constant(np.int32(axis))
        )

    def _reshape(self, x: Any, shape: tuple[int, ...], name: str | None = None) -> Any:
        named = {} if name is None else {"name": name}
        return self.mb.reshape(x=x, shape=self._constant(np.array(shape, np.int32)), **named)
