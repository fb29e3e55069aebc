"""What an artifact is held against: what the reference and its quantized twin decide, now or as recorded."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgekit.bundle.conformance import ConformanceCase
from edgekit.bundle.load import Bundle
from edgekit.errors import EdgekitError
from edgekit.evaluate.answers import PolicyDecider
from edgekit.evaluate.records import record
from edgekit.routing.decision_rule import SOLO
from edgekit.routing.decode_loop import has_room
from edgekit.routing.decoder import Decision
from edgekit.routing.replay import decision_at
from edgekit.routing.step_model import Logits
from edgekit.tasks.base import Problem, Task

if TYPE_CHECKING:
    from edgekit.policy.checkpoint import Policy

NORM_SCALE = 1 + 1e-6
"""How little the norms are scaled to see what rounding alone does to a policy's text."""


@dataclass(frozen=True)
class Expected:
    """What the artifact is held against, in the order of the prompts.

    reference: at its run's bias. exported, quantized: the quantized reference at the bias that the artifact was
    exported with, and at that of the replay (``biases``), which is the one that ships.
    """

    names: list[str]
    prompts: list[str]
    ids: list[list[int]]
    biases: list[float]
    exported_bias: float
    problems: list[Problem | None]
    reference: list[Decision]
    exported: list[Decision]
    quantized: list[Decision]


def at(solo: Decision, marker_bias: float, bundle: Bundle) -> Decision:
    """What ``solo``'s side decides at ``marker_bias``."""
    return decision_at(solo, marker_bias, bundle.routing, bundle.vocabulary)


def quantized_twin(reference: Policy, bundle: Bundle, calibration_prompts: Sequence[str] = ()) -> Policy:
    """The reference quantized by the bundle's recipe (on the export's own prompts), with the bundle's marker bias."""
    from edgekit.quantize.quantized import quantize_policy

    twin = quantize_policy(reference, bundle.manifest.export_recipe().quantize, calibration_prompts)
    twin.routing = twin.routing.model_copy(update={"marker_bias": bundle.routing.marker_bias})
    return twin


def exported_bias(bundle: Bundle) -> float:
    """The marker bias that the artifact was exported with; the bundle's own where no case says it."""
    cases = bundle.conformance()
    return cases[0].marker_bias if cases else bundle.routing.marker_bias


def with_room(bundle: Bundle, reference: Policy, problems: Sequence[Problem]) -> list[Problem]:
    """Those of ``problems`` that leave a response room in the bundle's context: no device reads the others.

    Raises :class:`EdgekitError` if that is none of them.
    """
    context = bundle.manifest.model.context_length

    def fits(prompt: str) -> bool:
        return all(has_room(len(encode(prompt)), context) for encode in (bundle.encode, reference.encode))

    fitting = [problem for problem in problems if fits(problem.prompt)]
    if problems and not fitting:
        why = f"None of {len(problems)} prompts leaves room in the context of {context} tokens"
        raise EdgekitError(f"nothing to verify on. {why}. Name a task with shorter ones, or export a longer context.")
    return fitting


def expect_from_policy(bundle: Bundle, reference: Policy, twin: Policy, problems: Sequence[Problem]) -> Expected:
    """Decide ``problems`` with the reference and its quantized twin, in the bundle's context length."""
    prompts, bias = [problem.prompt for problem in problems], exported_bias(bundle)
    context = bundle.manifest.model.context_length
    solo, routing = PolicyDecider(twin, context).decide(prompts, SOLO), twin.routing

    def decided(marker_bias: float) -> list[Decision]:
        return [decision_at(decision, marker_bias, routing, twin.vocabulary) for decision in solo]

    return Expected(
        names=[problem.id for problem in problems],
        prompts=prompts,
        ids=[bundle.encode(prompt) for prompt in prompts],
        biases=[bundle.routing.marker_bias] * len(prompts),
        exported_bias=bias,
        problems=list(problems),
        reference=PolicyDecider(reference, context).decide(prompts),
        exported=decided(bias),
        quantized=decided(bundle.routing.marker_bias),
    )


def expect_from_conformance(bundle: Bundle, task: Task | None) -> Expected:
    """The decisions that follow from the responses recorded in the bundle."""
    cases, bias = bundle.conformance(), exported_bias(bundle)
    expected = [bundle.expected(case) for case in cases]
    exported = [
        at(case.quantized_reference.solo(), bias, bundle) if isinstance(case, ConformanceCase) else decision
        for case, decision in zip(cases, expected, strict=True)
    ]
    return Expected(
        names=[case.id for case in cases],
        prompts=[case.prompt for case in cases],
        ids=[list(case.prompt_token_ids) for case in cases],
        biases=[case.bias(bundle.routing) for case in cases],
        exported_bias=bias,
        problems=[None if task is None else task.parse(case.prompt) for case in cases],
        reference=[case.reference_decision(bundle.routing, bundle.vocabulary) for case in cases],
        exported=exported,
        quantized=expected,
    )


def records_of(
    expected: Expected, artifact: Sequence[Decision], reference_right: list[bool] | None, right: list[bool] | None
) -> list[dict[str, Any]]:
    """For each prompt, as JSON data, what each side decided; whether the reference and the artifact were right."""

    def side(decisions: Sequence[Decision], right: list[bool] | None) -> list[dict[str, Any]]:
        return [record(made, None if right is None else right[row]) for row, made in enumerate(decisions)]

    sides = side(expected.reference, reference_right), side(expected.quantized, None), side(artifact, right)
    return [
        {"id": name, "prompt": prompt, "reference": before, "quantized": twin, "artifact": after}
        for name, prompt, before, twin, after in zip(expected.names, expected.prompts, *sides, strict=True)
    ]


def with_scaled_norms(policy: Policy) -> Policy:
    """``policy`` with every norm's weight scaled by 1 + 1e-6: the same function but for rounding."""
    import torch
    from torch import nn

    shared = {id(t): t for t in (*policy.model.parameters(), *policy.model.buffers()) if t.dim() > 1}
    model = copy.deepcopy(policy.model, shared)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and isinstance(parameter, nn.Parameter) and parameter.dim() == 1:
                parameter.mul_(NORM_SCALE)
    return replace(policy, model=model)


def forced_logits(policy: Policy, ids: Sequence[int], tokens: Sequence[int]) -> list[Logits]:
    """The policy's logits before each of ``tokens``, after the prompt ``ids``, in one pass."""
    import torch

    from edgekit.policy.attention import causal

    read, model = torch.tensor([[*ids, *tokens[:-1]]], device=policy.model.cos.device), policy.model
    with torch.inference_mode():
        written = model.hidden(read, *causal(read, None))[0, len(ids) - 1 :]
        logits = model.lm_head(written).float().cpu().numpy()
    return list(logits)
