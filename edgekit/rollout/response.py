"""A sampled response while it is written, and the groups of them that training learns from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edgekit.routing.decoder import Decision, RoutingDecoder


@dataclass(frozen=True)
class Group:
    """One prompt's token ids and its responses; ``responses[i].token_ids`` ends with the deciding token.

    ``log_probs[i]``: of each of these tokens in the distribution it was drawn from; None where that is not known.
    """

    prompt_ids: tuple[int, ...]
    responses: tuple[Decision, ...]
    log_probs: tuple[tuple[float, ...], ...] | None = field(default=None, compare=False)


@dataclass
class Response:
    """A response of at most ``limit`` tokens being written: what the decoder makes of it, and its tokens'
    log-probabilities where known."""

    decoder: RoutingDecoder
    limit: int
    log_probs: list[float | None] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether it has ended, by what it says or for want of room."""
        return self.decoder.done or len(self.log_probs) >= self.limit

    def extend(self, token_ids: Iterable[int], log_probs: Iterable[float | None]) -> None:
        """Take more tokens, up to the one that ends the response; what was drawn after it is nobody's."""
        for token_id, log_prob in zip(token_ids, log_probs, strict=True):
            if self.done:
                return
            self.decoder.push(token_id)
            self.log_probs.append(log_prob)


def group_of(prompt_ids: Sequence[int], responses: Sequence[Response]) -> Group:
    """The finished ``responses`` to a prompt."""
    known = tuple(tuple(each for each in row.log_probs if each is not None) for row in responses)
    whole = all(len(given) == len(row.log_probs) for given, row in zip(known, responses, strict=True))
    decisions = tuple(row.decoder.finish() for row in responses)
    return Group(tuple(prompt_ids), decisions, known if whole else None)
