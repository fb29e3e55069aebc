"""Chat templates rendered in a process of its own: one that never ends, or asks for memory without end, is one line."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.errors import BundleError
from edgekit.isolation.worker import Worker
from edgekit.policy.chat_template import ChatTemplate, Message

MEMORY = 2**30
SECONDS, EACH_SECONDS = 10.0, 0.25
"""Processor time of one rendering; all of a template may take as much, and so much more for each: an honest one takes
milliseconds, and a model folder is rendered some eighty times before it is taken.
"""

_workers: list[Worker] = []
"""The process that renders, started with the first template and kept for the others."""


class BoundedTemplate:
    """A :class:`ChatTemplate` elsewhere, with its errors; and ValueError for one that takes too long or too much."""

    def __init__(self, source: str, settings: Mapping[str, Any]) -> None:
        self.tells_date = False
        self._source, self._settings = source, dict(settings)
        self._used, self._allowed = 0.0, SECONDS
        self._ask([], False, check=True)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """See :meth:`ChatTemplate.render`."""
        return self._ask([dict(message) for message in messages], add_generation_prompt)

    def _ask(self, messages: list[dict[str, str]], add_generation_prompt: bool, check: bool = False) -> str:
        arguments = (self._source, self._settings, messages, add_generation_prompt, check)
        try:
            told = _worker().call("render", *arguments, seconds=SECONDS)
        except BundleError:
            limits = f"{SECONDS:g} s of processor time, or more memory than it may have"
            raise ValueError(f"it takes more than {limits}") from None
        except TypeError:
            raise ValueError("one of its arguments is no JSON value") from None
        self._used, self._allowed = self._used + told["seconds"], self._allowed + EACH_SECONDS
        if self._used > self._allowed:
            raise ValueError(f"it takes {self._used:.0f} s of processor time for a few renderings")
        if told["fault"] is not None:
            raise ValueError(told["fault"])
        self.tells_date = self.tells_date or told["tells_date"]
        text: str = told["text"]
        return text


def _worker() -> Worker:
    if not _workers or not _workers[-1].alive:
        _workers[:] = [Worker(__name__, "a chat template", MEMORY)]
    return _workers[-1]


class Service:
    """What the process offers."""

    def render(
        self, source: str, settings: dict[str, Any], messages: list[Message], add_generation_prompt: bool, check: bool
    ) -> dict[str, Any]:
        """The conversation's text and whether the date was asked for, or the fault, and the processor seconds that it
        took; ``check``: render nothing.
        """
        begin = time.process_time()
        try:
            template = ChatTemplate(source, settings)
            text = "" if check else template.render(messages, add_generation_prompt=add_generation_prompt)
            told: dict[str, Any] = {"fault": None, "text": text, "tells_date": template.tells_date}
        except ValueError as error:
            told = {"fault": str(error)}
        return {**told, "seconds": time.process_time() - begin}
