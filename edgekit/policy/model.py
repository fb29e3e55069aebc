"""A decoder whose attention is a plug.

Training, rollouts with a KV cache and the exported edge decoder run the same blocks; they differ
only in ``attend``, the function that turns a layer's q, k, v into its context. What a block computes beyond
a Llama's is a list of traits (:mod:`edgekit.policy.traits`); parameters bear Llama's names in every family.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from edgekit.policy.attention import Attend, causal
from edgekit.policy.fewer_passes import trained_norm, trained_rotation
from edgekit.policy.rope import rope_table
from edgekit.policy.traits import ACTIVATIONS, ModelConfig

Rotations = tuple[tuple[Tensor, Tensor], ...]
"""cos and sin at the positions of a call, (T, 1, D) or (B, T, 1, D) each, of every rope the model has."""


class RMSNorm(nn.Module):
    """y = w * x / sqrt(mean(x^2) + eps)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and x.dtype == self.weight.dtype:
            return trained_norm(x, self.weight, self.eps)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor, dims: int) -> Tensor:
    """Apply rotary positions to the first ``dims`` channels of x (B, T, H, D); cos, sin broadcast to it."""
    if dims == x.shape[-1]:
        if x.requires_grad:
            return trained_rotation(x, cos, sin)
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat([-second, first], dim=-1) * sin
    first, second, rest = x.split([dims // 2, dims // 2, x.shape[-1] - dims], dim=-1)
    return x * cos + torch.cat([-second, first, rest], dim=-1) * sin  # for the rest cos is 1 and sin 0


class Attention(nn.Module):
    """Grouped-query self-attention of one layer."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer, self.traits = config, layer, config.layers[layer]
        queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.output_bias)
        if config.qk_norm is not None:
            per_head = config.qk_norm == "head"
            self.q_norm = RMSNorm(config.head_dim if per_head else queries, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim if per_head else keys, config.rms_norm_eps)
        self.key_grid: nn.Module = nn.Identity()  # what a cache makes of k and v (B, T, K, D)
        self.value_grid: nn.Module = nn.Identity()

    def forward(self, x: Tensor, rotations: Rotations, attend: Attend) -> Tensor:
        batch, length = x.shape[0], x.shape[1]
        config, dim = self.config, self.config.head_dim
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        if config.qk_norm == "width":
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.view(batch, length, config.num_attention_heads, dim)
        k = k.view(batch, length, config.num_key_value_heads, dim)
        v = v.view(batch, length, config.num_key_value_heads, dim)
        if config.qk_norm == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        if self.traits.rope is not None:
            (cos, sin), dims = rotations[self.traits.rope], config.ropes[self.traits.rope].dims or dim
            q, k = rotate(q, cos, sin, dims), rotate(k, cos, sin, dims)
        if config.query_scale != 1.0:
            q = q * config.query_scale
        k, v = self.key_grid(k), self.value_grid(v)
        context = attend(self.layer, q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), self.traits.window)
        return self.o_proj(context.transpose(1, 2).reshape(batch, length, -1))


class MLP(nn.Module):
    """A gated linear unit: SwiGLU, or with another activation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(ACTIVATIONS[self.activation](self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One transformer layer: attention and MLP, each added to the residual. Norms the family lacks do nothing."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()

        def norm(present: bool) -> nn.Module:
            return RMSNorm(config.hidden_size, config.rms_norm_eps) if present else nn.Identity()

        self.residual_scale = config.residual_scale
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = norm(config.input_norms)
        self.post_attention_layernorm = norm(config.input_norms)  # Llama's name for the norm before its MLP
        self.attention_output_norm = norm(config.output_norms)
        self.mlp_output_norm = norm(config.output_norms)

    def forward(self, x: Tensor, rotations: Rotations, attend: Attend) -> Tensor:
        x = self.add(x, self.attention_output_norm(self.self_attn(self.input_layernorm(x), rotations, attend)))
        return self.add(x, self.mlp_output_norm(self.mlp(self.post_attention_layernorm(x))))

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """The residual ``x`` with what attention or MLP says, ``y``."""
        return x + (y if self.residual_scale == 1.0 else y * self.residual_scale)


class Backbone(nn.Module):
    """Embedding, blocks and final norm (Hugging Face's ``model.`` prefix)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class PolicyModel(nn.Module):
    """The policy network. ``cos`` and ``sin`` are the first rope's tables, ``cos_1`` and ``sin_1`` the second's.

    ``without_token`` (n,) int64 are the rows of the vocabulary that no token has: they have logits like all others, and
    whoever samples, or gives the probability of what was sampled, leaves them out.
    """

    cos: Tensor
    sin: Tensor
    without_token: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        if not self.lm_head.weight.is_meta:  # who gives it weights later makes them then
            self.register_buffer("without_token", torch.empty(0, dtype=torch.int64), persistent=False)
        self.make_tables()

    def make_tables(self) -> None:
        """Compute the rotary tables, one row for each position that a KV cache can hold."""
        for index, rope in enumerate(self.config.ropes):
            tables = rope_table(rope, self.config.head_dim, self.config.context_length)
            for name, table in zip(_table_names(index), tables, strict=True):
                self.register_buffer(name, table, persistent=False)

    def tables(self, rope: int) -> tuple[Tensor, Tensor]:
        """cos and sin (context_length, head_dim) of one of the config's ropes."""
        cos, sin = (self.get_buffer(name) for name in _table_names(rope))
        return cos, sin

    def rotations(self, positions: Tensor, length: int = 0) -> Rotations:
        """Rotary positions at ``positions`` (B, T) or (T,) of sequences of ``length``, if longer than a cache holds."""
        config = self.config
        found = []
        for index, rope in enumerate(config.ropes):
            cos, sin = self.tables(index)
            if length > config.context_length:
                longer = rope_table(rope, config.head_dim, length)
                cos, sin = longer[0].to(cos.device), longer[1].to(sin.device)
            found.append((cos[positions].unsqueeze(-2), sin[positions].unsqueeze(-2)))
        return tuple(found)

    def embed(self, token_ids: Tensor) -> Tensor:
        """What the first block reads, (B, T, hidden), of token_ids (B, T)."""
        x = self.model.embed_tokens(token_ids)
        return x if self.config.embedding_scale == 1.0 else x * self.config.embedding_scale

    def head_input(self, x: Tensor) -> Tensor:
        """What the head reads of the last block's output ``x`` (..., hidden)."""
        x = self.model.norm(x)
        return x if self.config.logit_divisor == 1.0 else x * (1 / self.config.logit_divisor)

    def hidden(self, token_ids: Tensor, positions: Tensor, attend: Attend, *, checkpointing: bool = False) -> Tensor:
        """Final hidden states (B, T, hidden) of token_ids (B, T) at positions (B, T) or (T,): the head's input.

        ``checkpointing`` keeps only each block's input for the gradient, which computes the block again.
        """
        rotations = self.rotations(positions, token_ids.shape[1])
        x = self.embed(token_ids)
        for block in self.model.layers:
            if checkpointing:
                x = checkpoint(block, x, rotations, attend, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, rotations, attend)
        return self.head_input(x)

    def forward(self, token_ids: Tensor, padding: Tensor | None = None) -> Tensor:
        """Logits (B, T, vocab) of whole sequences, no cache.

        ``padding`` (B,) int64 counts the left-padding tokens of each row; they are masked out and
        positions start at 0 after them.
        """
        return self.lm_head(self.hidden(token_ids, *causal(token_ids, padding)))


def _table_names(rope: int) -> tuple[str, str]:
    return (f"cos_{rope}", f"sin_{rope}") if rope else ("cos", "sin")


def bfloat16_copy(model: PolicyModel) -> PolicyModel:
    """``model`` with its products' weights in bfloat16, sharing the rest: under autocast the same, cast only once."""
    memo: dict[int, Tensor] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        if isinstance(module, nn.Linear):
            memo[id(module.weight)] = nn.Parameter(module.weight.detach().bfloat16(), requires_grad=False)
    twin = copy.deepcopy(model, memo)
    twin.model.embed_tokens = model.model.embed_tokens  # a tied head takes the embedding along
    return twin


@torch.no_grad()
def refresh_copy(twin: PolicyModel, model: PolicyModel) -> None:
    """Bring ``twin``, a :func:`bfloat16_copy` of ``model``, up to date, in place."""
    for mine, theirs in zip(twin.modules(), model.modules(), strict=True):
        if isinstance(mine, nn.Linear) and isinstance(theirs, nn.Linear):
            mine.weight.copy_(theirs.weight)
