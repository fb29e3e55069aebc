"""How far the probabilities that responses were sampled by lie from those that the update computes for them.

Both are the same policy's, in other arithmetic: bfloat16 there and float32 here, a KV cache, a server's kernels. A
policy gradient takes them for equal. Where they are not it follows a biased gradient, which nothing else shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


@dataclass
class LogProbGap:
    """Sums of |log pi_update - log pi_rollout| of tokens and of whole responses, and the largest response's."""

    tokens: int = 0
    of_tokens: float = 0.0
    sequences: int = 0
    of_sequences: float = 0.0
    largest: float = 0.0

    def add(self, by_token: Tensor, by_sequence: Tensor) -> None:
        """Count the differences of a batch: (m,) of its responses' tokens, (n,) of whole responses."""
        self.tokens += len(by_token)
        self.of_tokens += float(by_token.abs().sum())
        self.sequences += len(by_sequence)
        self.of_sequences += float(by_sequence.abs().sum())
        self.largest = max(self.largest, float(by_sequence.abs().max()))

    def metrics(self) -> dict[str, float]:
        """Means and the largest, in nats; empty if nothing was counted."""
        if not self.tokens:
            return {}
        return {
            "gap_per_token": self.of_tokens / self.tokens,
            "gap_per_sequence": self.of_sequences / self.sequences,
            "gap_largest": self.largest,
        }


def total_gap(gaps: Iterable[LogProbGap]) -> LogProbGap:
    """The gap of all processes together."""
    total = LogProbGap()
    for gap in gaps:
        total.tokens += gap.tokens
        total.of_tokens += gap.of_tokens
        total.sequences += gap.sequences
        total.of_sequences += gap.of_sequences
        total.largest = max(total.largest, gap.largest)
    return total


def importance_weights(by_sequence: Tensor, cap: float) -> Tensor:
    """Truncated importance weights (n,) of responses: min(cap, pi_update / pi_rollout), given the ratios' logarithms.

    Without the cap they make the estimator unbiased for the policy that the update computes; the cap bounds the
    variance of the few responses that the rollout's arithmetic thought unlikely (Ionides, Truncated importance
    sampling, 2008).
    """
    return by_sequence.exp().clamp(max=cap)
