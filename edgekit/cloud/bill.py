"""What a command may ask of a paid cloud, said before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.cloud.answers import KeptCloud
from edgekit.cloud.request import Price, Usage
from edgekit.tasks.base import Problem

CHARACTERS_PER_TOKEN = 4
"""Of English, about; what a server counts is its own."""


@dataclass(frozen=True)
class Bill:
    """At most ``calls`` prompts are asked and ``verdicts`` given; ``kept``: answers that are there already."""

    model: str
    server: str
    calls: int
    kept: int
    prompt_tokens: int
    verdicts: int = 0
    price: Price | None = None

    def sentence(self) -> str:
        """The same for people."""
        kept = f", {self.kept:,} more are answered already" if self.kept else ""
        prompts_asked = f"{self.calls:,} prompt{'' if self.calls == 1 else 's'}"
        judged = f", and at most {self.verdicts:,} verdicts of it as a judge" if self.verdicts else ""
        cost = ""
        if self.price is not None:
            prompts = self.price.of(Usage(self.prompt_tokens, 0))
            cost = f", ${prompts:.4f}, and ${self.price.completion_usd:g} for a million tokens of its replies"
        return (
            f"{self.model} at {self.server} will be asked at most {prompts_asked}{kept}{judged}: about "
            f"{self.prompt_tokens:,} tokens of prompts{cost}"
        )


def bill_of(
    cloud: KeptCloud,
    problems: Sequence[Problem],
    *,
    most: int | None = None,
    verdicts: int = 0,
    price: Price | None = None,
) -> Bill:
    """The bill for the answers to ``problems``, of which at most ``most`` are asked."""
    requests = [cloud.request_of(problem) for problem in problems]
    kept = cloud.store.known(requests)
    calls = len(requests) - kept if most is None else min(len(requests) - kept, most)
    characters = sum(len(message.content) for request in requests for message in request.messages)
    tokens = characters * calls // max(1, len(requests)) // CHARACTERS_PER_TOKEN
    return Bill(cloud.model, cloud.server, calls, kept, tokens, verdicts, price)
