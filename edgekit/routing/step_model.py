"""What the decode loop decodes with: a model that takes one token after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


class StepModel(Protocol):
    """A policy that runs token by token with its KV cache inside."""

    context_length: int

    def reset(self) -> None:
        """Forget the KV cache."""

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        """Take a whole prompt from position 0; returns the next token's logits, (vocab,) float32."""

    def decode(self, token_id: int) -> Logits:
        """Take one more token; returns the next token's logits, (vocab,) float32."""
