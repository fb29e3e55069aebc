"""On vLLM's V1 engine, as its documentation has it, the decisions are those of the decode loop.

The engine here is a small one that keeps to the documented interface: a persistent batch whose rows are added, removed,
moved and swapped; prompts in chunks, whose tokens are thrown away; requests that are preempted and come back.
"""

from __future__ import annotations

import enum
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.policy.tokens import END, MARKER, build_tokenizer
from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import Marker, RoutingSpec
from edgekit.routing.vocabulary import load_vocabulary

CONTEXT = 40


class MoveDirectionality(enum.Enum):
    """vLLM's."""

    UNIDIRECTIONAL = enum.auto()
    SWAP = enum.auto()


@dataclass(frozen=True)
class BatchUpdate:
    """vLLM's."""

    batch_size: int
    removed: Sequence[int] = ()
    added: Sequence[tuple[int, Any, list[int] | None, list[int]]] = ()
    moved: Sequence[tuple[int, int, MoveDirectionality]] = ()


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> type:
    """vLLM's modules, with what the documentation says of LogitsProcessor."""

    class LogitsProcessor:
        pass

    for name in ("vllm", "vllm.v1", "vllm.v1.sample", "vllm.v1.sample.logits_processor"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["vllm.v1.sample.logits_processor"].LogitsProcessor = LogitsProcessor  # type: ignore[attr-defined]
    return LogitsProcessor


class Drawn:
    """A model whose logits are drawn from what stands before; it likes the marker's beginning."""

    context_length = CONTEXT

    def __init__(self, size: int, liked: int) -> None:
        self.size, self.liked, self.ids = size, liked, [0]

    def logits(self, ids: Sequence[int]) -> Any:
        drawn = np.random.default_rng(list(ids)).normal(size=self.size).astype(np.float32)
        drawn[self.liked] += 2.0
        return drawn

    def reset(self) -> None:
        self.ids = []

    def prefill(self, token_ids: Sequence[int]) -> Any:
        self.ids = list(token_ids)
        return self.logits(self.ids)

    def decode(self, token_id: int) -> Any:
        self.ids.append(token_id)
        return self.logits(self.ids)


@dataclass
class Request:
    """One request of the engine."""

    prompt: list[int]
    params: Any
    chunks: int
    output: list[int] = field(default_factory=list)


class Engine:
    """Runs requests through a processor, four at a time."""

    def __init__(self, processor: Any, model: Drawn, stops: Sequence[int], seed: int) -> None:
        self.processor, self.model, self.stops, self.random = processor, model, stops, random.Random(seed)
        self.batch: list[Request] = []

    def run(self, requests: list[Request]) -> None:
        waiting = list(requests)
        while waiting or self.batch:
            added = []
            while waiting and len(self.batch) < 4:
                request = waiting.pop(0)
                added.append((len(self.batch), request.params, request.prompt, request.output))
                self.batch.append(request)
            moved = []
            if len(self.batch) > 1 and self.random.random() < 0.3:
                one, other = self.random.sample(range(len(self.batch)), 2)
                self.batch[one], self.batch[other] = self.batch[other], self.batch[one]
                moved = [(one, other, MoveDirectionality.SWAP)]
            changed = added or moved
            self.processor.update_state(BatchUpdate(len(self.batch), (), added, moved) if changed else None)
            rows = [self.model.logits([*r.prompt, *r.output]) for r in self.batch]
            left = self.processor.apply(torch.from_numpy(np.stack(rows)))
            for request, row in zip(self.batch, left, strict=True):
                if request.chunks:
                    request.chunks -= 1  # the prompt is not whole yet: what was drawn is thrown away
                else:
                    request.output.append(int(row.argmax()))
            self._leave(waiting)

    def _leave(self, waiting: list[Request]) -> None:
        """Requests that are done leave; now and then one is preempted. The last row fills the gap."""
        for row in reversed(range(len(self.batch))):
            request = self.batch[row]
            done = bool(request.output) and request.output[-1] in self.stops
            if not done and self.random.random() > 0.1:
                continue
            if not done:
                request.chunks = self.random.randrange(2)
                waiting.append(request)
            last = len(self.batch) - 1
            if row == last:
                self.processor.update_state(BatchUpdate(last, [row]))
            else:
                self.processor.update_state(
                    BatchUpdate(last, [row], (), [(last, row, MoveDirectionality.UNIDIRECTIONAL)])
                )
                self.batch[row] = self.batch[last]
            self.batch.pop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer, folder = build_tokenizer(), tmp_path_factory.mktemp("served")
    tokenizer.save(str(folder / "tokenizer.json"))
    spec = RoutingSpec(
        marker=Marker(text=MARKER, token_ids=((tokenizer.token_to_id(MARKER),),)),
        stop_token_ids=(tokenizer.token_to_id(END),),
        max_new_tokens=12,
        on_no_answer="local",
    )
    spec.save(folder / "routing.json")
    return folder


def expected(folder: Path, model: Drawn, prompt: list[int], bias: float | None) -> Decision:
    from edgekit.routing.spec import load_routing

    spec = load_routing(folder / "routing.json")
    vocabulary = load_vocabulary(folder / "tokenizer.json", spec)
    return decode(model, prompt, DecodeSession(spec, vocabulary, len(prompt), CONTEXT, bias))


@pytest.mark.parametrize("bias", [None, 1.5, float("-inf")])
def test_two_hundred_requests_are_decided_as_by_the_decode_loop(folder: Path, vllm: type, bias: float | None) -> None:
    from edgekit.integrations import vllm_processor

    vars(vllm_processor).pop("RoutingLogitsProcessor", None)
    tokenizer = build_tokenizer()
    model = Drawn(tokenizer.get_vocab_size(), tokenizer.token_to_id(MARKER))
    config = SimpleNamespace(model_config=SimpleNamespace(model=str(folder), max_model_len=CONTEXT))
    kind = vllm_processor.RoutingLogitsProcessor
    assert issubclass(kind, vllm)
    processor = kind(config, "cpu", False)
    assert not processor.is_argmax_invariant()
    params = SimpleNamespace(extra_args=None if bias is None else {vllm_processor.BIAS_ARGUMENT: bias})
    kind.validate_params(params)
    requests = [Request([5 + n % 40, n // 40, 7], params, chunks=n % 3) for n in range(200)]
    Engine(processor, model, [tokenizer.token_to_id(END)], seed=1).run(requests)
    called = 0
    for request in requests:
        decision = expected(folder, model, request.prompt, bias)
        ended = decision.token_ids[-1:] == (tokenizer.token_to_id(END),)
        assert tuple(request.output) == (*decision.token_ids, *(() if ended else [tokenizer.token_to_id(END)]))
        called += decision.called
    assert (called == 0) == (bias == float("-inf"))
    assert called < 200


def test_a_marker_of_several_tokens_is_written_whole(folder: Path) -> None:
    from edgekit.integrations.vllm_processor import RoutedRequest
    from edgekit.routing.spec import load_routing

    spec = load_routing(folder / "routing.json")
    spec = spec.model_copy(update={"marker": Marker(text="17 9", token_ids=((21, 22, 23),))})
    vocabulary = load_vocabulary(folder / "tokenizer.json", spec)
    model, decided = Drawn(300, 21), 0
    for number in range(40):
        prompt, output = [number, 3], []  # type: ignore[var-annotated]
        request = RoutedRequest(spec, vocabulary, 2, CONTEXT, output, marker_bias=2.0)
        while not output or output[-1] not in spec.stop_token_ids:
            logits = model.logits([*prompt, *output])
            request.choose(logits)  # thrown away: choosing twice chooses the same
            output.append(request.choose(logits))
        decision = decode(model, prompt, DecodeSession(spec, vocabulary, 2, CONTEXT, 2.0))
        assert tuple(output[: len(decision.token_ids)]) == decision.token_ids
        decided += decision.called
    assert 0 < decided < 40


@pytest.mark.parametrize("bias", ["3", True, float("nan"), [1], 10**400])
def test_a_bias_that_is_no_number_is_refused(bias: Any) -> None:
    from edgekit.integrations.vllm_processor import BIAS_ARGUMENT, marker_bias_of

    with pytest.raises(ValueError, match="is not a number"):
        marker_bias_of(SimpleNamespace(extra_args={BIAS_ARGUMENT: bias}))


def test_the_module_needs_no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    sys.modules.pop("edgekit.integrations.vllm_processor", None)
    import edgekit.integrations.vllm_processor as loaded

    with pytest.raises(ImportError):
        _ = loaded.RoutingLogitsProcessor
