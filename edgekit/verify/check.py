"""Verifying a bundle: structure first, then its artifact's decisions against the reference's, in two hops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.bundle.load import Bundle
from edgekit.cloud.client import Cloud
from edgekit.errors import BundleError
from edgekit.evaluate.answers import PolicyDecider, StepDecider
from edgekit.progress import Progress
from edgekit.recipes.quant_recipe import QuantRecipe
from edgekit.recipes.targets import get_target
from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.routing.decoder import Decision
from edgekit.routing.step_model import StepModel
from edgekit.simulate import SimulatedModel, open_bundled
from edgekit.tasks.base import Problem, Task
from edgekit.verify.parity import Thresholds, VerifyReport, common_prefix, compare, find_faults

if TYPE_CHECKING:
    from edgekit.policy.checkpoint import Policy

LOGIT_PROMPTS = 8
"""On how many prompts logits are compared as well."""


@dataclass(frozen=True)
class Expected:
    """What the artifact is held against, in the order of the prompts."""

    ids: list[list[int]]
    biases: list[float]
    problems: list[Problem | None]
    reference: list[Decision]
    quantized: list[Decision]


def verify_bundle(
    bundle: Bundle,
    reference: Policy | None,
    problems: Sequence[Problem],
    task: Task | None,
    cloud: Cloud | None,
    *,
    calibration_prompts: Sequence[str] = (),
    limits: Thresholds | None = None,
    on_progress: Progress | None = None,
    model: SimulatedModel | None = None,
) -> VerifyReport:
    """Run the bundle's artifact greedily in its host simulator and compare decisions.

    With ``reference``, the run's policy decodes ``problems`` at its own marker bias, and its quantized twin at the
    bundle's, like the artifact. Without, the decisions recorded in conformance.jsonl are the reference, each at
    its recorded bias, and ``problems`` is not read. ``calibration_prompts`` must be those of the export if its recipe
    rounds by gptq. ``model`` replaces the simulator (tests).
    Accuracies are None where ``task`` does not know the prompts.
    """
    limits = limits or Thresholds()
    faults = structure_faults(bundle, reference)
    if model is None:
        lacking = get_target(bundle.manifest.target).missing_to_run()
        if lacking is not None:
            return VerifyReport(False, "NOT_RUN", "none", 0, None, None, None, faults=[lacking, *faults])
        model = open_bundled(bundle)
    if reference is not None:
        twin = quantized_twin(reference, bundle, calibration_prompts)
        expected = expect_from_policy(bundle, reference, twin, problems)
    else:
        twin = None
        expected = expect_from_conformance(bundle, task)
    largest = bundle.manifest.model.vocab_size
    routed = [i for ids in bundle.routing.marker.token_ids for i in ids]
    if not expected.ids or any(not 0 <= i < largest for i in routed):
        faults = faults or ["lowering: nothing to compare, the bundle records no conformance case"]
        return VerifyReport(False, "MISMATCH", model.runtime, 0, None, None, None, faults=faults)
    artifact = run_artifact(bundle, model, expected, on_progress)
    difference = None if twin is None else logit_difference(bundle, model, twin, expected.ids[:LOGIT_PROMPTS])
    length = max(len(ids) for ids in bundle.routing.marker.token_ids)
    overall = compare(expected.reference, artifact, limits.near_margin, length)
    lowering = compare(expected.quantized, artifact, limits.near_margin, length)
    faults = faults + find_faults(overall, lowering, difference, limits)
    return VerifyReport(
        passed=not faults,
        outcome="MISMATCH" if faults else "MATCH",
        runtime=model.runtime,
        n=len(artifact),
        overall=overall,
        quantization=compare(expected.reference, expected.quantized, limits.near_margin, length),
        lowering=lowering,
        overall_accuracy_reference=overall_accuracy(expected.reference, expected.problems, task, cloud),
        overall_accuracy_artifact=overall_accuracy(artifact, expected.problems, task, cloud),
        max_abs_logit_diff=difference,
        faults=faults,
        source="conformance" if reference is None else "reference",
    )


def structure_faults(bundle: Bundle, reference: Policy | None) -> list[str]:
    """What is wrong before anything runs: vocabulary size, routing ids, stop ids, tokenizer.

    All of it is written when the artifact is lowered and packed, so all of it is the lowering hop's.
    """
    routing, size = bundle.routing, bundle.manifest.model.vocab_size
    faults = []
    ids = [*(i for marker in routing.marker.token_ids for i in marker), *routing.stop_token_ids]
    if any(not 0 <= i < size for i in ids):
        faults.append(f"lowering: routing.json names token ids outside the vocabulary of {size}")
    for marker in routing.marker.token_ids:
        spelled = b"".join(bundle.vocabulary[i] for i in marker).decode("utf-8", "replace")
        if spelled.strip() != routing.marker.text.strip():
            faults.append(f"lowering: marker ids {list(marker)} spell {spelled!r}, not {routing.marker.text!r}")
    if bundle.tokenizer.get_vocab_size() > size:
        faults.append(f"lowering: the tokenizer has {bundle.tokenizer.get_vocab_size()} tokens, the model {size}")
    if reference is None:
        return faults
    theirs = reference.routing
    if reference.model.config.vocab_size != size:
        faults.append(f"lowering: vocabulary of {size}, the reference's is {reference.model.config.vocab_size}")
    if routing.marker != theirs.marker:
        faults.append(f"lowering: marker ids {routing.marker.token_ids}, the reference's {theirs.marker.token_ids}")
    if routing.stop_token_ids != theirs.stop_token_ids:
        faults.append(f"lowering: stop ids {routing.stop_token_ids}, the reference's are {theirs.stop_token_ids}")
    if bundle.tokenizer.to_str() != reference.tokenizer.to_str():
        faults.append("lowering: the bundle's tokenizer is not the reference's")
    return faults


def quantized_twin(reference: Policy, bundle: Bundle, calibration_prompts: Sequence[str] = ()) -> Policy:
    """The reference quantized by the bundle's recipe (on the export's own prompts), with the bundle's marker bias."""
    from edgekit.quantize.quantized import quantize_policy

    twin = quantize_policy(
        reference, QuantRecipe.model_validate(bundle.manifest.recipe["quantize"]), calibration_prompts
    )
    twin.routing = twin.routing.model_copy(update={"marker_bias": bundle.routing.marker_bias})
    return twin


def expect_from_policy(bundle: Bundle, reference: Policy, twin: Policy, problems: Sequence[Problem]) -> Expected:
    """Decide ``problems`` with the reference and its quantized twin, in the bundle's context length."""
    prompts = [problem.prompt for problem in problems]
    context = bundle.manifest.model.context_length
    return Expected(
        ids=[bundle.encode(prompt) for prompt in prompts],
        biases=[bundle.routing.marker_bias] * len(prompts),
        problems=list(problems),
        reference=PolicyDecider(reference, context).decide(prompts),
        quantized=PolicyDecider(twin, context).decide(prompts),
    )


def expect_from_conformance(bundle: Bundle, task: Task | None) -> Expected:
    """The decisions recorded in the bundle. Raises :class:`BundleError` if a case holds an unknown token id."""
    cases = bundle.conformance()
    size = bundle.manifest.model.vocab_size
    for case in cases:
        if any(not 0 <= i < size for i in case.prompt_token_ids):
            raise BundleError(f"bad conformance case: {case.id}. A token id is out of range. Export the bundle again.")
    return Expected(
        ids=[list(case.prompt_token_ids) for case in cases],
        biases=[case.bias(bundle.routing) for case in cases],
        problems=[None if task is None else task.parse(case.prompt) for case in cases],
        reference=[case.reference_decision(bundle.routing, bundle.vocabulary) for case in cases],
        quantized=[bundle.expected(case) for case in cases],
    )


def run_artifact(
    bundle: Bundle, model: StepModel, expected: Expected, on_progress: Progress | None = None
) -> list[Decision]:
    """The artifact's greedy decisions, one prompt after another, each at its bias."""
    decider = StepDecider(model, bundle.routing, bundle.vocabulary, bundle.encode)
    decisions: list[Decision] = []
    for ids, bias in zip(expected.ids, expected.biases, strict=True):
        decisions += decider.decide_ids([ids], bias)
        if on_progress is not None:
            on_progress(len(decisions), len(expected.ids))
    return decisions


def logit_difference(bundle: Bundle, model: StepModel, twin: Policy, prompts: Sequence[Sequence[int]]) -> float:
    """Largest |logit difference| between artifact and quantized reference where both had read the same tokens."""
    from edgekit.policy.reference import ReferenceModel

    worst, context = 0.0, bundle.manifest.model.context_length
    other = ReferenceModel(twin.model)
    for ids in prompts:
        sessions = [DecodeSession(twin.routing, twin.vocabulary, len(ids), context, logits=[]) for _ in range(2)]
        a, b = (decode(m, ids, s) for m, s in zip((model, other), sessions, strict=True))
        steps = min(common_prefix(a.token_ids, b.token_ids) + 1, len(a.token_ids), len(b.token_ids))
        for x, y in zip((sessions[0].logits or [])[:steps], (sessions[1].logits or [])[:steps], strict=True):
            if x.shape != y.shape:
                return float("inf")
            worst = max(worst, float(np.nan_to_num(np.abs(x - y), nan=np.inf).max()))
    return worst


def overall_accuracy(
    decisions: Sequence[Decision], problems: Sequence[Problem | None], task: Task | None, cloud: Cloud | None
) -> float | None:
    """Share answered rightly by the side that answered; None without a task or with a prompt it cannot read."""
    if task is None or any(problem is None for problem in problems):
        return None
    right = 0
    for decision, problem in zip(decisions, problems, strict=True):
        assert problem is not None
        answer = decision.answer
        if decision.called:
            answer = cloud.answer(problem) if cloud is not None else None
        right += task.grade(problem, answer)
    return right / len(decisions)
