"""The greedy choice on the device, and the few logits of it from which a session decides what is really written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekit.routing.decode_loop import DecodeSession
from edgekit.routing.spec import RoutingSpec


class GreedyChoice:
    """The best token, by a guess at what a :class:`DecodeSession` will say: that a marker would count anywhere.

    ``bias`` is the session's. A positive one is left out of the guess: where it makes a call of a response, nothing
    after it is read. Noted are the guess, the best id and logit that is no marker's, the largest logit of all, and
    the logits of ``marker_ids``: all that a session asks of a row of logits.
    """

    def __init__(
        self, spec: RoutingSpec, without_token: Tensor, vocab: int, bias: float, rows: int, length: int
    ) -> None:
        device = without_token.device
        self._without, self._bias = without_token, min(bias, 0.0)
        ids = sorted({token for marker in spec.marker.token_ids for token in marker if token < vocab})
        self.marker_ids = np.array(ids, np.int64)
        self._markers = torch.tensor(ids, dtype=torch.int64, device=device)
        self.noted: tuple[Tensor, ...] = (
            torch.zeros(rows, length, dtype=torch.int64, device=device),
            torch.zeros(rows, length, dtype=torch.int64, device=device),
            torch.zeros(rows, length, device=device),
            torch.zeros(rows, length, device=device),
            torch.zeros(rows, length, len(ids), device=device),
        )
        self._scratch = np.full(vocab, -np.inf, np.float32)

    def __call__(self, logits: Tensor, count: Tensor) -> Tensor:
        """See :class:`edgekit.policy.batch_decode.Choice`."""
        logits = logits.float()
        at_markers = logits.index_select(1, self._markers)
        others = logits.index_fill(1, self._without, -torch.inf).index_fill(1, self._markers, -torch.inf)
        best, tokens = others.max(-1)
        guess = tokens
        if len(self.marker_ids):
            marker, place = at_markers.max(-1)
            guess = torch.where(marker - best + self._bias > 0, self._markers[place], tokens)
        for noted, value in zip(self.noted, (guess, tokens, best, logits.amax(-1), at_markers), strict=True):
            noted[: len(logits)].index_copy_(1, count, value.unsqueeze(1))
        return guess

    def keep(self, rows: Tensor) -> None:
        """A row is as good as any other."""

    def advance(
        self, session: DecodeSession, other: int, best: float, largest: float, at_markers: NDArray[np.float32]
    ) -> int | None:
        """What ``session`` says to a row of logits of which this is known; see :meth:`DecodeSession.advance`.

        It is given all logits, the unknown ones as impossible: none of them could have been chosen, or be missed in
        a margin.
        """
        logits = self._scratch
        logits[self.marker_ids] = at_markers
        logits[other] = best if np.isfinite(largest) else largest
        try:
            return session.advance(logits)
        finally:
            logits[self.marker_ids] = -np.inf
            logits[other] = -np.inf


def write_together(
    choice: GreedyChoice, sessions: Sequence[DecodeSession], rows: Sequence[int], chunk: Sequence[Tensor]
) -> tuple[list[int], int, dict[int, int]]:
    """Show ``sessions`` a ``chunk`` of what was noted; ``rows`` of it are theirs, one each.

    Returns the rows of those that go on, how many tokens of the chunk count, and what they write instead of the last
    of these: row -> token.
    """
    guesses, *known = (part.numpy() for part in chunk)
    going = dict(zip(rows, sessions, strict=True))
    for count in range(guesses.shape[1]):
        instead: dict[int, int] = {}
        for row, session in list(going.items()):
            token = choice.advance(session, *(part[row, count] for part in known))
            if token is None:
                del going[row]
            elif token != guesses[row, count]:
                instead[row] = token
        if instead or not going:
            return list(going), count + 1, instead
    return list(going), guesses.shape[1], {}
