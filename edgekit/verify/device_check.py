"""A phone's decisions against the host's: the reference, the quantized reference and the host's simulator."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgekit.bundle.conformance import AnyCase
from edgekit.bundle.load import Bundle
from edgekit.progress import Progress
from edgekit.recipes.targets import get_target
from edgekit.routing.decoder import Decision, RoutingDecoder
from edgekit.routing.vocabulary import Vocabulary
from edgekit.simulate import open_bundled
from edgekit.tasks.base import Problem
from edgekit.verify.check import run_artifact
from edgekit.verify.device_report import DeviceReport, ReportedCase, ordered_cases
from edgekit.verify.expected import Expected, expect_from_conformance, expect_from_policy, quantized_twin
from edgekit.verify.forced import Replay, Replayer, feed
from edgekit.verify.judge import Change, Thresholds, find_faults
from edgekit.verify.parity import Hop, common_prefix, compare, hop_json
from edgekit.verify.report import CheckOutcome

if TYPE_CHECKING:
    from edgekit.policy.checkpoint import Policy

Against = Literal["simulator", "quantized reference"]
SAME_OUTCOMES = 0.9
"""The share of cases that must decide and answer as recorded where no simulator can replay the phone's tokens."""


@dataclass(frozen=True)
class Divergence:
    """Where a case's response on the phone first differs from another side's.

    ``position`` counts generated tokens from 0; a token id is None where that side had already ended. ``expected``
    and ``device`` are route/reason.
    """

    case: str
    against: Against
    position: int
    expected_token: int | None
    device_token: int | None
    expected: str
    device: str
    sentence: str


@dataclass(frozen=True)
class DeviceVerdict:
    """The result of ``edgekit verify --device-report``. ``mismatched`` are the cases whose decision or answer differs
    from the quantized reference's; ``simulator`` and ``replay`` are None where this host cannot run the artifact.
    ``replay``: the phone's own tokens fed to this host's simulator, so that each choice is compared on the same text.
    """

    passed: bool
    report: DeviceReport
    simulator_runtime: str | None
    overall: Hop
    quantization: Hop
    lowering: Hop
    simulator: Hop | None
    replay: Replay | None
    mismatched: list[str]
    first_divergence: Divergence | None
    source: Literal["reference", "conformance"]
    faults: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> CheckOutcome:
        """MATCH if every requirement is met."""
        return "MATCH" if self.passed else "MISMATCH"

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON data; ``simulator``'s keys are null if it did not run."""
        return {
            "passed": self.passed,
            "outcome": self.outcome,
            "device": self.report.device.model_dump(),
            "app": self.report.app.model_dump(),
            "runtime": f"{self.report.runtime.name} {self.report.runtime.version}",
            "simulator_runtime": self.simulator_runtime,
            "source": self.source,
            "n": len(self.report.cases),
            **{key: value for key, value in hop_json(self.overall).items() if not key.startswith("call_fraction")},
            "call_fraction_reference": self.overall.call_fraction_before,
            "call_fraction_device": self.overall.call_fraction_after,
            "quantization": hop_json(self.quantization),
            "lowering": hop_json(self.lowering),
            "simulator": hop_json(self.simulator),
            "replay": None if self.replay is None else self.replay.to_json(),
            "mismatched_cases": self.mismatched,
            "first_divergence": None if self.first_divergence is None else vars(self.first_divergence),
            "decode_tokens_per_s": decode_speed(self.report.cases),
            "prefill_ms": statistics.median(case.prefill_ms for case in self.report.cases),
            "faults": self.faults,
        }


def verify_device(
    bundle: Bundle,
    report: DeviceReport,
    reference: Policy | None = None,
    *,
    calibration_prompts: Sequence[str] = (),
    limits: Thresholds | None = None,
    on_progress: Progress | None = None,
) -> DeviceVerdict:
    """Compare ``report`` with this host's simulator and with the reference, case by case.

    Without ``reference`` the decisions recorded in conformance.jsonl are the reference; with it, its policy and its
    quantized twin decide the same prompts now. Raises :class:`BundleError` if the report is not whole or not of
    ``bundle``.
    """
    limits = limits or Thresholds()
    reported = ordered_cases(report, bundle)
    cases = bundle.conformance()
    device = [case.decision() for case in reported]
    expected = expectations(bundle, cases, reference, calibration_prompts)
    recorded = expect_from_conformance(bundle, None)
    simulated, replay, runtime = simulate_cases(bundle, recorded, device, on_progress)
    length = max(len(ids) for ids in bundle.routing.marker.token_ids)
    overall = compare(expected.reference, device, limits.near_margin, length)
    lowering = compare(expected.quantized, device, limits.near_margin, length)
    hop = None if simulated is None else compare(simulated, device, limits.near_margin, length)
    sides = [[decision.called for decision in side] for side in (expected.reference, expected.quantized, device)]
    changes = {"calls": (Change.of(sides[0], sides[2]), Change.of(sides[0], sides[1]), Change.of(sides[1], sides[2]))}
    faults = [*tokenizer_faults(cases, reported), *own_faults(bundle, reported, device)]
    faults += [
        fault.replace("lowering:", "device:", 1) if "replayed" in fault else fault
        for fault in find_faults(overall, lowering, replay, changes, limits)
    ]
    mismatched = [c.id for c, a, b in zip(cases, recorded.quantized, device, strict=True) if not same_outcome(a, b)]
    if replay is None and len(mismatched) > (1 - SAME_OUTCOMES) * len(cases):
        share = f"{len(mismatched)} of {len(cases)} cases decide or answer otherwise than the quantized reference"
        faults.append(f"device: {share}, {SAME_OUTCOMES:g} must agree where this host cannot run the artifact")
    if claimed := [c.id for c in reported if (c.outcome == "MISMATCH") != (c.id in mismatched)]:
        faults.append(
            f"device: {claimed[0]} reports {outcome_of(reported, claimed[0])}, its own decision says otherwise"
        )
    others: list[tuple[Against, list[Decision]]] = [("quantized reference", expected.quantized)]
    if simulated is not None:
        others.insert(0, ("simulator", simulated))
    found = (first_divergence(cases, side, device, against, bundle.vocabulary) for against, side in others)
    return DeviceVerdict(
        passed=not faults,
        report=report,
        simulator_runtime=runtime,
        overall=overall,
        quantization=compare(expected.reference, expected.quantized, limits.near_margin, length),
        lowering=lowering,
        simulator=hop,
        replay=replay,
        mismatched=mismatched,
        first_divergence=next((each for each in found if each is not None), None),
        source="conformance" if reference is None else "reference",
        faults=faults,
    )


def expectations(
    bundle: Bundle, cases: Sequence[AnyCase], reference: Policy | None, calibration_prompts: Sequence[str]
) -> Expected:
    """What the conformance prompts should become: as recorded, or decided by ``reference`` now."""
    if reference is None:
        return expect_from_conformance(bundle, None)
    problems = [Problem(case.id, case.prompt, "conformance") for case in cases]
    return expect_from_policy(bundle, reference, quantized_twin(reference, bundle, calibration_prompts), problems)


def simulate_cases(
    bundle: Bundle, expected: Expected, device: Sequence[Decision], on_progress: Progress | None
) -> tuple[list[Decision] | None, Replay | None, str | None]:
    """The artifact's decisions on this host, its choices along the phone's own tokens, and what ran it.

    Three times None without its runtime.
    """
    if get_target(bundle.manifest.target).missing_to_run() is not None:
        return None, None, None
    model, context = open_bundled(bundle), bundle.manifest.model.context_length
    simulated = run_artifact(bundle, model, expected, on_progress)
    replayer = Replayer(bundle.routing, bundle.vocabulary, context, bundle.routing.marker_bias)
    for ids, bias, theirs in zip(expected.ids, expected.biases, device, strict=True):
        replayer.marker_bias = bias
        replayer.add(len(ids), theirs, feed(model, ids, theirs.token_ids))
    return simulated, replayer.result(0.0), model.runtime


def own_faults(bundle: Bundle, reported: Sequence[ReportedCase], device: Sequence[Decision]) -> list[str]:
    """A line if some reported decision or text does not follow from the reported tokens."""
    wrong = []
    for case, decision in zip(reported, device, strict=True):
        decoder = RoutingDecoder(bundle.routing, bundle.vocabulary)
        for token in decision.token_ids:
            decoder.push(token)
        made = decoder.finish()
        if not same_outcome(made, decision) or made.text != decision.text or made.token_ids != decision.token_ids:
            wrong.append(case.id)
    if not wrong:
        return []
    return [f"device: {len(wrong)} of {len(reported)} cases report what their own tokens do not say, first {wrong[0]}"]


def tokenizer_faults(cases: Sequence[AnyCase], reported: Sequence[ReportedCase]) -> list[str]:
    """A line if the phone's tokenizer read some prompt differently."""
    other = [
        (case, got)
        for case, got in zip(cases, reported, strict=True)
        if tuple(got.prompt_token_ids) != case.prompt_token_ids
    ]
    if not other:
        return []
    case, got = other[0]
    at = common_prefix(case.prompt_token_ids, got.prompt_token_ids)
    where = f"first {case.id} at prompt token {at}"
    return [f"tokenizer: {len(other)} of {len(cases)} prompts have other token ids on the device, {where}"]


def same_outcome(a: Decision, b: Decision) -> bool:
    """Whether two sides decided alike: route, reason and answer."""
    return (a.route, a.reason, a.answer) == (b.route, b.reason, b.answer)


def outcome_of(reported: Sequence[ReportedCase], name: str) -> str:
    """What the phone said of a case."""
    return next(case.outcome for case in reported if case.id == name)


def first_divergence(
    cases: Sequence[AnyCase],
    expected: Sequence[Decision],
    device: Sequence[Decision],
    against: Against,
    vocabulary: Vocabulary,
) -> Divergence | None:
    """The first case whose tokens or outcome differ, and where its tokens part."""
    for case, a, b in zip(cases, expected, device, strict=True):
        if a.token_ids == b.token_ids and same_outcome(a, b):
            continue
        at = common_prefix(a.token_ids, b.token_ids)
        wanted, got = (ids[at] if at < len(ids) else None for ids in (a.token_ids, b.token_ids))
        told = [f"{d.route}/{d.reason}" for d in (a, b)]
        parts = f"{case.id}: the device parts from the {against} at generated token {at}"
        spelled = f"{describe(wanted, vocabulary)} there, {describe(got, vocabulary)} on the device"
        if a.token_ids == b.token_ids:
            parts, spelled = f"{case.id}: the device wrote the {against}'s tokens", "but decided otherwise"
        sentence = f"{parts}: {spelled} ({told[0]} there, {told[1]} on the device)"
        return Divergence(case.id, against, at, wanted, got, told[0], told[1], sentence)
    return None


def describe(token: int | None, vocabulary: Vocabulary) -> str:
    """A token for people: its id and what it spells."""
    return "the end" if token is None else f"{token} {vocabulary[token].decode('utf-8', 'replace')!r}"


def decode_speed(cases: Sequence[ReportedCase]) -> float | None:
    """Tokens a second on the phone, over the steps after each prefill; None if nothing was timed."""
    steps, spent = sum(max(0, len(case.token_ids) - 1) for case in cases), sum(case.decode_ms for case in cases)
    return 1000 * steps / spent if spent > 0 else None
