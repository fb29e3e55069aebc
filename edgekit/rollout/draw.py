"""Tokens drawn from the policy's own distribution, on its device, by random numbers that each prompt brings along."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def uniforms(seed: int, stream: int, group_size: int, length: int) -> Tensor:
    """Numbers in [0, 1), (group_size, length) float32, of the random stream (``seed``, ``stream``)."""
    state = int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0])
    return torch.rand(group_size, length, generator=torch.Generator().manual_seed(state))


def draw(logits: Tensor, temperature: float, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One token id per row (n,) int64, sampled from softmax(logits (n, vocab) / temperature) by ``uniform`` (n,).

    The token is where the cumulated probabilities pass the uniform number's share of their sum. Its log-probability
    (n,) float32 comes with it, and whether the row's logits are numbers (n,) bool; where they are not the token means
    nothing.
    """
    # In float64 a number below 1 times the sum stays below the sum, so the token is always one of the vocabulary.
    probabilities = (logits.float() / temperature).softmax(-1)
    cumulated = probabilities.cumsum(-1, dtype=torch.float64)
    total = cumulated[:, -1:]
    tokens = torch.searchsorted(cumulated, uniform[:, None].double() * total, right=True)
    tokens = tokens.clamp(max=logits.shape[-1] - 1)  # NaN passes nothing
    return tokens[:, 0], probabilities.gather(-1, tokens)[:, 0].log(), total[:, 0].isfinite()


class DrawnChoice:
    """A :class:`edgekit.policy.batch_decode.Choice` by :func:`draw`.

    Noted are the tokens, their log-probabilities, and whether their logits were numbers. Ids in ``without_token`` are
    never drawn.
    """

    def __init__(self, temperature: float, without_token: Tensor, rows: int, length: int) -> None:
        device = without_token.device
        self._temperature, self._without = temperature, without_token
        self._noise = torch.zeros(rows, length, device=device)
        self.noted: tuple[Tensor, ...] = (
            torch.zeros(rows, length, dtype=torch.int64, device=device),
            torch.zeros(rows, length, device=device),
            torch.zeros(rows, length, dtype=torch.bool, device=device),
        )

    @torch.inference_mode()
    def begin(self, noise: Sequence[Tensor]) -> None:
        """Draw by ``noise``, of each prompt's rows (rows, length): copied once, before anything is drawn."""
        together = torch.cat(list(noise))
        self._noise[: len(together)] = together.to(self._noise.device)

    def __call__(self, logits: Tensor, count: Tensor) -> Tensor:
        """See :class:`edgekit.policy.batch_decode.Choice`."""
        uniform = self._noise[: len(logits)].index_select(1, count)[:, 0]
        logits = logits.index_fill(1, self._without, -torch.inf) if len(self._without) else logits
        drawn = draw(logits, self._temperature, uniform)
        for noted, value in zip(self.noted, drawn, strict=True):
            noted[: len(logits)].index_copy_(1, count, value.unsqueeze(1))
        return drawn[0]

    def keep(self, rows: Tensor) -> None:
        """See :class:`edgekit.policy.batch_decode.Choice`."""
        self._noise[: len(rows)] = self._noise[rows]
