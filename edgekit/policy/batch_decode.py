"""The one loop that writes responses to a batch of prompts, a chunk of tokens at a time, all of it on the device.

Cache, tokens and what is noted of each choice stay where they are, so a step is the same few kernels on the same
memory: on CUDA it is captured as a graph and replayed, on a CPU it is called. The host looks only between chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from edgekit.policy.attention import product_dtype
from edgekit.policy.kv_cache import KVCache, decode, step
from edgekit.policy.model import PolicyModel
from edgekit.policy.padding import pad_left


@dataclass(frozen=True)
class Pace:
    """How a device is kept busy: the tokens of a chunk, and in what sizes its work comes.

    Attention reads the cache up to a multiple of ``positions``. ``halves``: a batch shrinks by halves only; otherwise
    to any size. What has few sizes is captured, and kept for the next batch.
    """

    tokens: int
    positions: int
    halves: bool

    def rows_for(self, alive: int, rows: int) -> int:
        """The rows of a batch of ``rows`` in which ``alive`` are still written."""
        if not self.halves:
            return alive
        while (rows + 1) // 2 >= alive and rows > 1:
            rows = (rows + 1) // 2
        return rows


TOKEN_BY_TOKEN = Pace(1, 1, halves=False)
"""A CPU waits for nobody, so it computes nothing that may turn out to be in vain."""
IN_CHUNKS = Pace(16, 128, halves=True)
"""A GPU that is looked at after each token waits most of the time."""


class Choice(Protocol):
    """How a batch's next tokens are chosen; part of the captured step, so nothing of it may wait for the host.

    ``noted``: what is kept of each choice, (rows, responses' length, ...) each, the tokens int64 first.
    """

    noted: tuple[Tensor, ...]

    def __call__(self, logits: Tensor, count: Tensor) -> Tensor:
        """Tokens (n,) int64 for the first n rows by their logits (n, vocab), noted at place ``count`` (1,) int64."""

    def keep(self, rows: Tensor) -> None:
        """From now on the first rows go on with what was meant for ``rows`` (n,) int64."""


class Replay:
    """Does ``work``, which takes and returns nothing, once a call.

    On CUDA the second call captures what it launches, and that one and all later ones replay it: on the same memory,
    so ``work`` may only read and write tensors that stay. The first call lets libraries set themselves up.
    """

    def __init__(self, work: Callable[[], None], device: torch.device, pool: Any) -> None:
        self._work, self._is_cuda, self._pool = work, device.type == "cuda", pool
        self._called = False
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if not self._is_cuda or not self._called:
            self._called = True
            self._work()
            return
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                self._work()
            self._graph = graph
        self._graph.replay()


class BatchDecoder:
    """Room for ``rows`` responses up to position ``length``, written as ``choice`` chooses.

    ``begin`` once a batch, then ``write`` chunk after chunk. The cache has the type that attention computes in where
    this is made, so make and use it under the same autocast (with ``cache_enabled=False``: a graph must not read a
    cast weight that is freed).
    """

    @torch.inference_mode()
    def __init__(self, model: PolicyModel, choice: Choice, rows: int, length: int, pace: Pace | None = None) -> None:
        self.model, self.choice = model, choice
        self.device = device = model.cos.device
        self.pace = pace or pace_of(device)
        self._dtype = product_dtype(model.cos)
        self.cache = KVCache(model.config, rows, _up(length, self.pace.positions), device, self._dtype)
        self._tokens = torch.zeros(rows, 1, dtype=torch.int64, device=device)
        self._place, self._count = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(2))
        self._steps: dict[tuple[int, int, bool], Replay] = {}
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self.rows = self.read = self._written = self._limit = self._width = 0
        self._padded = False

    def has_room(self, rows: int, length: int) -> bool:
        """Whether a batch of ``rows`` up to position ``length`` fits."""
        return rows <= len(self._tokens) and length <= self.cache.length

    @property
    def full(self) -> bool:
        """Whether all that was asked for is written and read."""
        return self.read == self._limit

    @torch.inference_mode()
    def begin(self, prompts: Sequence[Sequence[int]], copies: int, limit: int) -> None:
        """Read ``prompts`` (token ids), each for ``copies`` rows side by side, which get up to ``limit`` tokens."""
        self._width, self._limit = max(map(len, prompts)), limit
        self._padded = min(map(len, prompts)) < self._width
        self.rows = copies * len(prompts)
        once = KVCache(self.model.config, len(prompts), self._width, self.device, self._dtype)
        token_ids, once.padding = pad_left(prompts, self.device)
        logits = step(self.model, token_ids, once)
        repeat = torch.arange(len(prompts), device=self.device).repeat_interleave(copies)
        self.cache.take(once, repeat, self._width)
        self._count.zero_()
        self._place.fill_(self._width)
        self._tokens[: self.rows, 0] = self.choice(logits[repeat], self._count)
        self._count += 1
        self.read, self._written = 0, 1

    @torch.inference_mode()
    def write(self) -> list[Tensor]:
        """The next chunk: what was noted of it, (rows, tokens, ...) each, on the host; waits for the device once."""
        begin, end = self.read, min(self.read + self.pace.tokens, self._limit)
        while self._written < end:
            place = self._width + self._written - 1
            first = place - place % self.pace.positions
            span = range(first, min(first + self.pace.positions, self.cache.length))
            key = (self.rows, span.stop, self._padded)
            if key not in self._steps:
                self._steps[key] = Replay(partial(self._step, self.rows, span, self._padded), self.device, self._pool)
            self._steps[key]()
            self._written += 1
        self.read = end
        chunk = [noted[: self.rows, begin:end].to("cpu", non_blocking=True) for noted in self.choice.noted]
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        return chunk

    def _step(self, rows: int, span: range, padded: bool) -> None:
        logits = decode(self.model, self._tokens[:rows], self.cache, self._place, span, padded=padded)
        self._tokens[:rows, 0] = self.choice(logits, self._count)
        self._place += 1
        self._count += 1

    @torch.inference_mode()
    def keep(self, alive: Sequence[int], below: float) -> Sequence[int]:
        """Drop rows other than ``alive`` if that leaves less than ``below`` of all; returns which are left, in order.

        Dropping copies the cache. Rows that have ended may stay, where there are sizes to keep to.
        """
        rows = self.pace.rows_for(len(alive), self.rows)
        if rows >= below * self.rows:
            return range(self.rows)
        living = set(alive)
        ended = (row for row in range(self.rows) if row not in living)
        left = [*alive, *(row for row, _ in zip(ended, range(rows - len(alive)), strict=False))]
        chosen = torch.tensor(left, device=self.device)
        self.cache.take(self.cache, chosen, self._width + self._written - 1)
        self.choice.keep(chosen)
        self._tokens[:rows] = self._tokens[chosen]
        self.rows = rows
        return left

    @torch.inference_mode()
    def go_back(self, count: int, instead: dict[int, int]) -> None:
        """Go on after the first ``count`` tokens, of which ``instead`` says the last of some rows: row -> token."""
        self._tokens[: self.rows, 0] = self.choice.noted[0][: self.rows, count - 1]
        for row, token in instead.items():
            self._tokens[row, 0] = token
        self._count.fill_(count)
        self._place.fill_(self._width + count - 1)
        self.read = self._written = count


def pace_of(device: torch.device) -> Pace:
    """The pace that suits ``device``."""
    return IN_CHUNKS if device.type == "cuda" else TOKEN_BY_TOKEN


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
