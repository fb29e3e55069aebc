"""The decision on a vLLM server: a logits processor of its V1 engine that is the decode loop, a session a request.

    vllm serve out/run/policy --logits-processors edgekit.integrations.vllm_processor:RoutingLogitsProcessor

The served model is a policy folder; its routing.json and tokenizer.json are read there. Each request is decoded
greedily, whatever its sampling settings say, and ends where the policy's response ends: with the marker, all of it,
where it calls. ``vllm_xargs={"edgekit_marker_bias": B}`` in a request decides at another bias.

https://docs.vllm.ai/en/stable/features/custom_logitsprocs/ documents the interface. vLLM is imported only when it asks
for the class, which must be of its own kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.record_lines import is_number
from edgekit.routing.decode_loop import DecodeSession
from edgekit.routing.spec import RoutingSpec, load_routing
from edgekit.routing.step_model import Logits
from edgekit.routing.vocabulary import Vocabulary, load_vocabulary

if TYPE_CHECKING:
    from torch import Tensor

BIAS_ARGUMENT = "edgekit_marker_bias"


class RoutedRequest:
    """One request: chooses its next token from the logits and from what the engine has kept of its output.

    ``output`` is the engine's own list, which grows as it goes. The engine may compute logits and throw the token away
    (a prompt in chunks), or come back to a request with its output as it was (preempted): what was chosen counts only
    once it stands in ``output``.
    """

    def __init__(
        self,
        spec: RoutingSpec,
        vocabulary: Vocabulary,
        prompt_tokens: int,
        context_length: int,
        output: Sequence[int],
        marker_bias: float | None = None,
    ) -> None:
        self._made = (spec, vocabulary, prompt_tokens, context_length, marker_bias)
        self._end = spec.stop_token_ids[0]
        self._output = output
        self._session = DecodeSession(*self._made)
        self._ended: tuple[int, tuple[int, ...]] | None = None
        """Where the response's end begins in the output, and the tokens that are left to write from there."""

    def choose(self, logits: Logits) -> int:
        """The next token, from ``logits`` (vocab,)."""
        place = len(self._output)
        if self._ended is not None and place >= self._ended[0]:
            begin, left = self._ended
            return left[min(place - begin, len(left) - 1)]
        if list(self._session.token_ids) != list(self._output):
            self._session, self._ended = DecodeSession(*self._made), None
            if not all(self._session.take(token) for token in self._output):
                self._ended = place, (self._end,)
                return self._end
        token = self._session.advance(logits)
        if token is not None:
            return token
        written = tuple(self._session.token_ids[place:])
        self._ended = place, (*written, self._end)
        return self._ended[1][0]


class RoutingBatch:
    """What the processor does, apart from vLLM's own classes."""

    def __init__(self, folder: Path, context_length: int) -> None:
        self.spec = load_routing(folder / "routing.json")
        self.vocabulary = load_vocabulary(folder / "tokenizer.json", self.spec)
        self.context_length = context_length
        self.rows: dict[int, RoutedRequest] = {}

    def update(self, change: Any) -> None:
        """Follow a ``BatchUpdate``: what was removed, added and moved, in this order."""
        for row in change.removed:
            self.rows.pop(row, None)
        for row, params, prompt, output in change.added:
            bias, known = marker_bias_of(params), len(prompt or ())
            self.rows[row] = RoutedRequest(self.spec, self.vocabulary, known, self.context_length, output, bias)
        for origin, target, direction in change.moved:
            moving, standing = self.rows.pop(origin, None), self.rows.pop(target, None)
            if moving is not None:
                self.rows[target] = moving
            if direction.name == "SWAP" and standing is not None:
                self.rows[origin] = standing

    def apply(self, logits: Tensor) -> Tensor:
        """``logits`` (requests, vocab), changed in place: only the chosen token is left in each row."""
        if self.rows:
            given = logits.float().cpu().numpy()
            chosen = {row: request.choose(given[row]) for row, request in self.rows.items()}
            rows = list(chosen)
            logits[rows] = float("-inf")
            logits[rows, list(chosen.values())] = 0.0
        return logits


def marker_bias_of(params: Any) -> float | None:
    """The bias that a request asks for, None for the policy's. Raises ValueError for anything but a number."""
    bias = (getattr(params, "extra_args", None) or {}).get(BIAS_ARGUMENT)
    if bias is None:
        return None
    if isinstance(bias, bool) or not (is_number(bias) or bias in (math.inf, -math.inf)):
        raise ValueError(f"{BIAS_ARGUMENT}: {bias!r} is not a number")
    return float(bias)


def __getattr__(name: str) -> Any:
    if name != "RoutingLogitsProcessor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vllm.v1.sample.logits_processor import LogitsProcessor

    class RoutingLogitsProcessor(LogitsProcessor):  # type: ignore[misc]
        """See the module."""

        def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
            facts = vllm_config.model_config
            self.batch = RoutingBatch(Path(facts.model), int(facts.max_model_len))

        @classmethod
        def validate_params(cls, sampling_params: Any) -> None:
            """Refuse a bias that is no number."""
            marker_bias_of(sampling_params)

        def is_argmax_invariant(self) -> bool:
            """It decides the token: greedy requests need it too."""
            return False

        def update_state(self, batch_update: Any) -> None:
            """None: nothing changed but outputs."""
            if batch_update is not None:
                self.batch.update(batch_update)

        def apply(self, logits: Tensor) -> Tensor:
            """See :meth:`RoutingBatch.apply`."""
            return self.batch.apply(logits)

    globals()[name] = RoutingLogitsProcessor
    return RoutingLogitsProcessor
