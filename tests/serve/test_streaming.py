"""Text on its way: read while the device still writes, in as few pieces as a screen can show."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from serve.clients import client_of, one

from edgekit.hybrid.device import Device, DeviceThread
from edgekit.hybrid.events import CloudText, DeviceText, Event, Restart
from edgekit.routing.step_model import Logits, StepModel
from edgekit.serve.running import joined
from edgekit.serve.server import Together


def test_text_is_read_while_the_device_still_writes(serve: Any, device: Device, prompts: dict[bool, str]) -> None:
    model = Waiting(device.model)
    served = serve(device=replace(device, model=model, thread=DeviceThread()))
    stream = client_of(served).chat.completions.create(model="x", messages=one(prompts[False]), stream=True)
    text = ""
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        if text:
            model.read.set()
    assert model.was_read
    assert text == served.session.ask(prompts[False]).text


@dataclass
class Waiting:
    """A step model that goes on after some tokens only when their text has been read."""

    model: StepModel
    read: threading.Event = field(default_factory=threading.Event)
    steps: int = 0
    was_read: bool = False

    @property
    def context_length(self) -> int:
        return self.model.context_length

    def reset(self) -> None:
        self.model.reset()

    def prefill(self, token_ids: Sequence[int]) -> Logits:
        return self.model.prefill(token_ids)

    def decode(self, token_id: int) -> Logits:
        self.steps += 1
        if self.steps == 6:
            self.was_read = self.read.wait(60)
        return self.model.decode(token_id)


TOLD = st.lists(st.sampled_from([DeviceText("a"), DeviceText("b\n"), CloudText("c"), Restart("offline", "why")]))


@given(TOLD)
def test_pieces_told_together_lose_nothing_and_keep_their_order_and_their_sides(told: list[Event]) -> None:
    together = list(joined(deque(told)))

    def letters(events: list[Event]) -> list[tuple[type, str]]:
        return [(type(event), letter) for event in events for letter in getattr(event, "text", "!")]

    assert letters(together) == letters(told)
    sides = [type(event) for event in together]
    assert all(one is not other or one is Restart for one, other in pairwise(sides))


class Wire:
    """A transport that keeps what is written, write by write."""

    def __init__(self) -> None:
        self.writes, self.writes_before_close = list[bytes](), -1

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.writes_before_close = len(self.writes)

    def is_closing(self) -> bool:
        return self.writes_before_close >= 0


@given(turns=st.lists(st.lists(st.binary(min_size=1), min_size=1), max_size=4), last=st.lists(st.binary(min_size=1)))
def test_what_is_written_in_one_turn_of_the_loop_leaves_at_once_and_nothing_is_lost_at_the_end(
    turns: list[list[bytes]], last: list[bytes]
) -> None:
    wire = Wire()

    async def write() -> None:
        together = Together(wire)  # type: ignore[arg-type]
        for turn in turns:
            for piece in turn:
                together.write(piece)
            await asyncio.sleep(0)
        for piece in last:
            together.write(piece)
        together.close()
        await asyncio.sleep(0)

    asyncio.run(write())
    assert wire.writes == [b"".join(turn) for turn in (*turns, last) if turn]
    assert wire.writes_before_close == len(wire.writes)


def test_what_waits_for_a_client_that_is_gone_is_dropped() -> None:
    wire = Wire()

    async def write() -> None:
        together = Together(wire)  # type: ignore[arg-type]
        together.write(b"late")
        wire.close()
        await asyncio.sleep(0)
        together.close()

    asyncio.run(write())
    assert wire.writes == []
