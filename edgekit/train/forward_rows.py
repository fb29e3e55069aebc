"""How many responses a forward and backward pass of the update takes at a time, where the config leaves it open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from edgekit.policy.model import PolicyModel
from edgekit.policy.traits import ModelConfig
from edgekit.train.batches import Sample, most_tokens
from edgekit.train.config import TrainConfig

MOST = {"cpu": 128, "cuda": 512}
"""More rows would only take more memory."""
SHARE = 0.5
"""Of the free memory, what activations may take: gradients, logits and what libraries hold come on top."""


def forward_rows(config: TrainConfig, model: PolicyModel, samples: Sequence[Sample]) -> int:
    """``config.rows_per_forward``, or the largest of :data:`MOST`, its half, its quarter ... that fits.

    How a gradient is summed up depends on it in the last bits: on a CPU it is :data:`MOST` unless memory forbids.
    """
    if config.rows_per_forward is not None:
        return config.rows_per_forward
    device = model.cos.device
    rows, free = MOST.get(device.type, MOST["cpu"]), free_bytes(device)
    if free is None or not samples:
        return rows
    tokens = SHARE * free / activation_bytes(model.config, config.gradient_checkpointing)
    while rows > 1 and most_tokens(samples, rows) > tokens:
        rows //= 2
    return rows


def activation_bytes(config: ModelConfig, checkpointing: bool) -> int:
    """What a backward pass keeps of a token, at most: of all blocks, or of their inputs and one block.

    In bfloat16 it is little less: norms, rotations and residuals stay in float32.
    """
    heads, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    block = 4 * (8 * config.hidden_size + 6 * heads + 6 * keys + 4 * config.intermediate_size)
    if not checkpointing:
        return block * config.num_hidden_layers
    return 4 * config.hidden_size * config.num_hidden_layers + block


def free_bytes(device: torch.device) -> int | None:
    """The memory that is left on ``device``, what torch holds there unused included; None where nobody says."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
