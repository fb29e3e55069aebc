"""A Llama-family decoder whose attention is a plug.

Training, rollouts with a KV cache and the exported edge decoder run the same blocks; they differ
only in ``attend``, the function that turns a layer's q, k, v into its context. Parameter names are
Hugging Face's, so a state dict is a Llama checkpoint.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q (B, H, T, D), k (B, K, T, D), v (B, K, T, D)) -> context (B, H, T, D)."""


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of slow rotations, for contexts longer than ``original_length`` positions."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_length: int


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and options of a Llama-family model (Llama, SmolLM, Mistral, Qwen2, Qwen3)."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    qk_norm: bool = False
    rope_scaling: RopeScaling | None = None


class RMSNorm(nn.Module):
    """y = w * x / sqrt(mean(x^2) + eps)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rope_table(config: ModelConfig, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin, each (length, head_dim), in the half-split layout Hugging Face uses."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    frequency = config.rope_theta**-exponent
    if config.rope_scaling is not None:
        frequency = _stretched(frequency, config.rope_scaling)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos().float(), angle.sin().float()


def _stretched(frequency: Tensor, scaling: RopeScaling) -> Tensor:
    """Fast rotations kept, slow ones divided by the factor, those between blended (Llama 3.1's published rule)."""
    turns = scaling.original_length * frequency / (2 * math.pi)  # of the original context
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequency + (1 - kept) * frequency / scaling.factor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to x (B, T, H, D); cos, sin broadcast to it."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    """Grouped-query self-attention with optional bias (Qwen2) and q/k norms (Qwen3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, layer: int, attend: Attend) -> Tensor:
        batch, length = x.shape[0], x.shape[1]
        dim = self.config.head_dim
        q = self.q_proj(x).view(batch, length, self.config.num_attention_heads, dim)
        k = self.k_proj(x).view(batch, length, self.config.num_key_value_heads, dim)
        v = self.v_proj(x).view(batch, length, self.config.num_key_value_heads, dim)
        if self.config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        context = attend(layer, q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.o_proj(context.transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, layer: int, attend: Attend) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, layer, attend)
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    """Embedding, blocks and final norm (Hugging Face's ``model.`` prefix)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class PolicyModel(nn.Module):
    """The policy network."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        cos, sin = rope_table(config, config.max_position_embeddings)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def hidden(self, token_ids: Tensor, positions: Tensor, attend: Attend, *, checkpointing: bool = False) -> Tensor:
        """Final hidden states (B, T, hidden) of token_ids (B, T) at positions (B, T) or (T,).

        ``checkpointing`` keeps only each block's input for the gradient, which computes the block again.
        """
        cos, sin = self.cos[positions].unsqueeze(-2), self.sin[positions].unsqueeze(-2)  # (T, 1, D) or (B, T, 1, D)
        x = self.model.embed_tokens(token_ids)
        for layer, block in enumerate(self.model.layers):
            if checkpointing:
                x = checkpoint(block, x, cos, sin, layer, attend, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, cos, sin, layer, attend)
        return self.model.norm(x)

    def forward(self, token_ids: Tensor, padding: Tensor | None = None) -> Tensor:
        """Logits (B, T, vocab) of whole sequences, no cache.

        ``padding`` (B,) int64 counts the left-padding tokens of each row; they are masked out and
        positions start at 0 after them.
        """
        return self.lm_head(self.hidden(token_ids, *causal(token_ids, padding)))


def bfloat16_copy(model: PolicyModel) -> PolicyModel:
    """``model`` with its products' weights in bfloat16, sharing the rest: under autocast the same, cast only once."""
    memo: dict[int, Tensor] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        if isinstance(module, nn.Linear):
            memo[id(module.weight)] = nn.Parameter(module.weight.detach().bfloat16(), requires_grad=False)
    twin = copy.deepcopy(model, memo)
    twin.model.embed_tokens = model.model.embed_tokens  # a tied head takes the embedding along
    return twin


def expand_groups(x: Tensor, heads: int) -> Tensor:
    """Repeat each KV head for its queries: (B, K, S, D) -> (B, heads, S, D)."""
    batch, kv_heads, length, dim = x.shape
    if kv_heads == heads:
        return x
    return x.unsqueeze(2).expand(batch, kv_heads, heads // kv_heads, length, dim).reshape(batch, heads, length, dim)


def causal(token_ids: Tensor, padding: Tensor | None) -> tuple[Tensor, Attend]:
    """Positions and the attention of a full left-padded batch."""
    length = token_ids.shape[1]
    index = torch.arange(length, device=token_ids.device)
    if padding is None:

        def attend_all(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attention(q, k, v, is_causal=True)

        return index, attend_all
    positions = (index[None, :] - padding[:, None]).clamp(min=0)  # (B, T)
    real = index[None, None, :] >= padding[:, None, None]  # (B, 1, T) keys
    # A padding query sees itself, so that its softmax is defined; nothing reads its output.
    mask = (index[None, None, :] <= index[None, :, None]) & (real | (index[None, None, :] == index[None, :, None]))
    mask = mask.unsqueeze(1)  # (B, 1, T, T)

    def attend(_: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, mask)

    return positions, attend


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
    """Grouped-query attention, kept out of autocast: its bfloat16 backward is ten times slower on a CPU."""
    k, v = expand_groups(k, q.shape[1]), expand_groups(v.to(q.dtype), q.shape[1])  # q, k: rotated in float32
    with torch.autocast(q.device.type, enabled=False):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)


class KVCache:
    """A static KV cache for left-padded batches: rows share the write position.

    keys, values: (layers, B, K, S, D) float32.
    """

    def __init__(self, config: ModelConfig, batch: int, length: int, device: torch.device | str = "cpu") -> None:
        shape = (config.num_hidden_layers, batch, config.num_key_value_heads, length, config.head_dim)
        self.keys = torch.zeros(shape, device=device)
        self.values = torch.zeros(shape, device=device)
        self.padding = torch.zeros(batch, dtype=torch.int64, device=device)
        self.end = 0

    def reserve(self, length: int) -> None:
        """Make room for at least ``length`` positions, doubling, so that growing costs little."""
        missing = length - self.keys.shape[3]
        if missing > 0:
            extra = (0, 0, 0, max(missing, self.keys.shape[3]))
            self.keys, self.values = F.pad(self.keys, extra), F.pad(self.values, extra)

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) the given rows (n,) int64."""
        self.keys, self.values = self.keys.index_select(1, rows), self.values.index_select(1, rows)
        self.padding = self.padding[rows]


@torch.inference_mode()
def step(model: PolicyModel, token_ids: Tensor, cache: KVCache) -> Tensor:
    """Append token_ids (B, T) to the cache; returns the last position's logits (B, vocab)."""
    start, end = cache.end, cache.end + token_ids.shape[1]
    index = torch.arange(end, device=token_ids.device)
    queries = index[start:]
    padded = bool(cache.padding.any())
    positions = (queries[None, :] - cache.padding[:, None]).clamp(min=0) if padded else queries
    mask = None
    if padded:
        real = index[None, None, :] >= cache.padding[:, None, None]
        own = index[None, None, :] == queries[None, :, None]
        mask = ((index[None, None, :] <= queries[None, :, None]) & (real | own)).unsqueeze(1)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cache.keys[layer, :, :, start:end] = k
        cache.values[layer, :, :, start:end] = v
        k, v = cache.keys[layer, :, :, :end], cache.values[layer, :, :, :end]
        if q.shape[2] == 1:
            # All heads of a group look at the same keys: they stand where several queries would, nothing is copied.
            grouped = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])
            return attention(grouped, k, v, mask).reshape(q.shape)
        if mask is None and start > 0:
            return attention(q, k, v, index[None, :] <= queries[:, None])
        return attention(q, k, v, mask, is_causal=mask is None)

    hidden = model.hidden(token_ids, positions, attend)
    cache.end = end
    return model.lm_head(hidden[:, -1])
