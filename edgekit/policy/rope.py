"""Rotary positions: how far each pair of a head's channels has turned at each position.

A context longer than the one a model was first trained on is reached by slowing the turns down; each scheme is one
small class. Some slow down by how long the sequence is: their table serves sequences of up to ``steady`` positions,
and a longer one needs a table of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


class Scaling:
    """A way to slow rotations down."""

    @property
    def steady(self) -> int | None:
        """The longest sequence that one table serves; None where the length does not matter."""
        return None

    @property
    def amplitude(self) -> float:
        """What cos and sin are multiplied by."""
        return 1.0

    def slowed(self, theta: float, exponent: Tensor, length: int) -> Tensor:
        """Radians a position, (dims / 2,) float64, in a sequence of ``length``; unscaled they are theta^-exponent."""
        raise NotImplementedError


@dataclass(frozen=True)
class LinearScaling(Scaling):
    """Every rotation ``factor`` times slower (Chen et al., arXiv 2306.15595)."""

    factor: float

    def slowed(self, theta: float, exponent: Tensor, length: int) -> Tensor:
        return theta**-exponent / self.factor


@dataclass(frozen=True)
class DynamicScaling(Scaling):
    """A base that grows with the sequence once it is longer than ``original_length`` (dynamic NTK)."""

    factor: float
    original_length: int

    @property
    def steady(self) -> int:
        return self.original_length

    def slowed(self, theta: float, exponent: Tensor, length: int) -> Tensor:
        dims = 2 * len(exponent)
        stretch = self.factor * max(length, self.original_length) / self.original_length - (self.factor - 1)
        return (theta * stretch ** (dims / (dims - 2))) ** -exponent


@dataclass(frozen=True)
class Llama3Scaling(Scaling):
    """Fast rotations kept, slow ones divided by the factor, those between blended (Llama 3.1's published rule)."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_length: int

    def slowed(self, theta: float, exponent: Tensor, length: int) -> Tensor:
        frequency = theta**-exponent
        turns = self.original_length * frequency / (2 * math.pi)  # of the original context
        low, high = self.low_frequency_factor, self.high_frequency_factor
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return kept * frequency + (1 - kept) * frequency / self.factor


@dataclass(frozen=True)
class YarnScaling(Scaling):
    """Between ``slow_turns`` and ``fast_turns`` of the original context a ramp from divided to kept (arXiv 2309.00071).

    ``truncate`` widens the ramp to whole pairs of channels.
    """

    factor: float
    original_length: int
    attention_factor: float
    fast_turns: float = 32.0
    slow_turns: float = 1.0
    truncate: bool = True

    @property
    def amplitude(self) -> float:
        return self.attention_factor

    def slowed(self, theta: float, exponent: Tensor, length: int) -> Tensor:
        pairs = len(exponent)

        def pair_that_turns(turns: float) -> float:
            return pairs * math.log(self.original_length / (turns * 2 * math.pi)) / math.log(theta)

        low, high = pair_that_turns(self.fast_turns), pair_that_turns(self.slow_turns)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * pairs - 1)
        width = high - low or 0.001
        divided = ((torch.arange(pairs, dtype=torch.float64) - low) / width).clamp(0, 1)
        frequency = theta**-exponent
        return divided * frequency / self.factor + (1 - divided) * frequency


@dataclass(frozen=True)
class LongRopeScaling(Scaling):
    """A factor for each pair, one for sequences of up to ``original_length``, one for longer (arXiv 2402.13753)."""

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_length: int
    attention_factor: float

    @property
    def steady(self) -> int:
        return self.original_length

    @property
    def amplitude(self) -> float:
        return self.attention_factor

    def slowed(self, theta: float, exponent: Tensor, length: int) -> Tensor:
        factors = self.long if length > self.original_length else self.short
        return theta**-exponent / torch.tensor(factors, dtype=torch.float64)


@dataclass(frozen=True)
class Rope:
    """Rotary positions of base ``theta`` for the first ``dims`` channels of a head (None: all), perhaps slowed down."""

    theta: float = 10_000.0
    dims: int | None = None
    scaling: Scaling | None = None


def frequencies(rope: Rope, dims: int, length: int) -> tuple[Tensor, float]:
    """Radians a position, (dims / 2,) float64, of ``dims`` channels in a sequence of ``length``; and the amplitude."""
    exponent = torch.arange(0, dims, 2, dtype=torch.float64) / dims
    if rope.scaling is None:
        return rope.theta**-exponent, 1.0
    return rope.scaling.slowed(rope.theta, exponent, length), rope.scaling.amplitude


def rope_table(rope: Rope, head_dim: int, rows: int, length: int | None = None) -> tuple[Tensor, Tensor]:
    """cos and sin, each (rows, head_dim) float32, in the half-split layout that Hugging Face uses.

    ``length`` of the sequence they are for: None means as many as there are rows. Channels that do not turn have
    cos 1 and sin 0.
    """
    dims = rope.dims or head_dim
    frequency, amplitude = frequencies(rope, dims, length or rows)
    angle = torch.outer(torch.arange(rows, dtype=torch.float64), frequency)
    angle = torch.cat([angle, angle], dim=-1)
    cos, sin = (amplitude * angle.cos()).float(), (amplitude * angle.sin()).float()
    if dims == head_dim:
        return cos, sin
    still = torch.ones(rows, head_dim - dims)
    return torch.cat([cos, still], dim=-1), torch.cat([sin, torch.zeros_like(still)], dim=-1)
