"""The decision in ``generate()``: a LogitsProcessor that is the decode loop, and a StoppingCriteria that knows its end.

    processor = RoutingProcessor(routing, vocabulary, [len(ids)], context_length)
    model.generate(input_ids, logits_processor=[processor], stopping_criteria=[processor.ends()], do_sample=False)
    decision = processor.decisions()[0]

Each row is a :class:`DecodeSession`, which chooses the token; ``generate`` is left that one only. So the decisions are
those of ``edgekit run``, whatever runs the model: transformers itself, or optimum's ORTModelForCausalLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from edgekit.errors import BackendMissing, BundleError, install_hint
from edgekit.routing.decode_loop import DecodeSession
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import RoutingSpec
from edgekit.routing.vocabulary import Vocabulary

if TYPE_CHECKING:
    from edgekit.bundle.load import Bundle


class RoutingProcessor(LogitsProcessor):  # type: ignore[misc]
    """Chooses the tokens of one call of ``generate``, greedily.

    ``prompt_tokens`` holds each row's prompt length without padding; ``marker_bias`` None means the spec's, -inf
    forbids calling. Use a new one for each call.
    """

    def __init__(
        self,
        spec: RoutingSpec,
        vocabulary: Vocabulary,
        prompt_tokens: Sequence[int],
        context_length: int,
        marker_bias: float | None = None,
    ) -> None:
        self._sessions = [DecodeSession(spec, vocabulary, n, context_length, marker_bias) for n in prompt_tokens]
        self._end = spec.stop_token_ids[0]
        self._ended = [False] * len(self._sessions)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``scores`` (rows, vocab) with only the chosen token left in each row."""
        chosen = [self._choose(row, logits) for row, logits in enumerate(scores.float().cpu().numpy())]
        only = torch.full_like(scores, float("-inf"))
        only[torch.arange(len(chosen)), torch.tensor(chosen)] = 0.0
        return only

    def _choose(self, row: int, logits: Any) -> int:
        if self._ended[row]:
            return self._end  # padding of a row that is done
        token = self._sessions[row].advance(logits)
        self._ended[row] = token is None
        return self._end if token is None else token

    def ends(self) -> StoppingCriteria:
        """What tells ``generate`` that a row's response has ended."""
        return _Ends(self)

    def decisions(self) -> list[Decision]:
        """Each row's decision, once ``generate`` has returned."""
        return [session.decision() for session in self._sessions]


class _Ends(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, processor: RoutingProcessor) -> None:
        self._processor = processor

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return torch.tensor(self._processor._ended, device=input_ids.device)


class OptimumPolicy:
    """A bundle of the standard layout in optimum's ONNX Runtime model, with edgekit's decisions.

    Raises :class:`BackendMissing` without optimum-onnx, :class:`BundleError` for a bundle that is damaged or of
    another layout.
    """

    def __init__(self, folder: Path) -> None:
        from edgekit.bundle.load import open_bundle

        try:
            from optimum.onnxruntime import ORTModelForCausalLM
        except ImportError:
            hint = install_hint("dev")
            raise BackendMissing(f"cannot open {folder}: optimum-onnx is not installed. {hint}.") from None
        self.bundle: Bundle = open_bundle(folder)
        manifest = self.bundle.manifest
        if manifest.target != "onnx" or manifest.recipe.get("layout") != "standard":
            raise BundleError(f"not for optimum: {folder}. Its layout is edgekit's own. Export onnx_int4_standard.")
        self.model = ORTModelForCausalLM.from_pretrained(folder)

    def decide(self, prompt: str, marker_bias: float | None = None) -> Decision:
        """The decision on ``prompt``, as the decode loop makes it."""
        ids, facts = self.bundle.encode(prompt), self.bundle.manifest.model
        processor = RoutingProcessor(
            self.bundle.routing, self.bundle.vocabulary, [len(ids)], facts.context_length, marker_bias
        )
        row = torch.tensor([ids])
        self.model.generate(
            input_ids=row,
            attention_mask=torch.ones_like(row),
            logits_processor=[processor],
            stopping_criteria=[processor.ends()],
            max_new_tokens=min(self.bundle.routing.max_new_tokens, facts.context_length - len(ids)),
            do_sample=False,
        )
        return processor.decisions()[0]
