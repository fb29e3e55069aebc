"""Encoding prompts with a tokenizer from outside: here if its time is bounded, else in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tokenizers import Tokenizer

from edgekit.isolation.worker import Worker
from edgekit.routing.prompt_tokens import Part, PromptTokenizer, tokenizer_of
from edgekit.routing.tokenizer_bounds import is_linear

MEMORY = 2 * 2**30
OPEN_S, SECONDS = 120.0, 20.0


class PromptEncoder(Protocol):
    """See :meth:`PromptTokenizer.encode`."""

    def encode(self, parts: Sequence[Part], delimiters: Sequence[str] = ()) -> list[int]: ...


def encoder_of(tokenizer: Tokenizer) -> PromptEncoder:
    """What encodes prompts with ``tokenizer``."""
    return PromptTokenizer(tokenizer) if is_linear(tokenizer) else _EncoderProcess(tokenizer)


class _EncoderProcess:
    """A :class:`PromptTokenizer` whose time and memory end: raises BundleError where they do, then and ever after."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._worker = Worker(__name__, "the tokenizer", MEMORY)
        self._worker.call("open", tokenizer.to_str(), seconds=OPEN_S)

    def encode(self, parts: Sequence[Part], delimiters: Sequence[str] = ()) -> list[int]:
        told = [[part.text, part.is_user] for part in parts]
        ids: list[int] = self._worker.call("encode", told, list(delimiters), seconds=SECONDS)
        return ids


class Service:
    """What the process offers."""

    def open(self, text: str) -> None:
        """Read the tokenizer."""
        self._tokenizer = PromptTokenizer(tokenizer_of(text))

    def encode(self, parts: list[list[Any]], delimiters: list[str]) -> list[int]:
        """The ids of a prompt."""
        return self._tokenizer.encode([Part(*part) for part in parts], delimiters)
