"""Verifying a bundle: structure first, then what its artifact decides, freely and on the reference's own text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit.bundle.load import Bundle
from edgekit.cloud.client import Cloud
from edgekit.errors import BadLogits, BundleError
from edgekit.evaluate.answers import PolicyDecider
from edgekit.evaluate.calibrate import left_calibrated
from edgekit.progress import Progress
from edgekit.recipes.targets import get_target
from edgekit.routing.decision_rule import SOLO
from edgekit.routing.decode_loop import DecodeSession, decode
from edgekit.routing.decoder import Decision
from edgekit.routing.step_model import Logits, StepModel
from edgekit.simulate import SimulatedModel, open_bundled
from edgekit.tasks.base import Problem, Task
from edgekit.verify.expected import (
    Expected,
    at,
    expect_from_conformance,
    expect_from_policy,
    forced_logits,
    quantized_twin,
    records_of,
    with_room,
    with_scaled_norms,
)
from edgekit.verify.forced import Replayer, feed
from edgekit.verify.judge import FULL_PRECISION_CHOICES, Change, Thresholds, find_faults, find_notes
from edgekit.verify.late import LateReplay, LateReplayer, late_faults, late_texts, unreached
from edgekit.verify.parity import Hop, common_prefix, compare
from edgekit.verify.report import CalibrationHop, NoiseFloor, VerifyReport
from edgekit.verify.rounding import within_reach
from edgekit.verify.structure import can_be_run, case_faults, structure_faults

if TYPE_CHECKING:
    from edgekit.policy.checkpoint import Policy


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
    """Run the bundle's artifact in its host simulator and compare.

    With ``reference``, the run's policy decodes ``problems`` at its own marker bias, its quantized twin at the
    bundle's, like the artifact. Without, the responses recorded in conformance.jsonl are the reference, and
    ``problems`` is not read. ``calibration_prompts`` must be those of the export if its recipe rounds by gptq.
    ``model`` replaces the simulator (tests). Accuracies are None where ``task`` does not know the prompts.
    """
    limits = with_recipe(limits or Thresholds(), bundle)
    faults = structure_faults(bundle, reference)
    try:
        faults += case_faults(bundle)
        if model is None:
            lacking = get_target(bundle.manifest.target).missing_to_run()
            if lacking is not None:
                return VerifyReport(False, "NOT_RUN", "none", 0, faults=[lacking, *faults])
            model = open_bundled(bundle)
        if not can_be_run(bundle):
            return VerifyReport(False, "MISMATCH", model.runtime, 0, faults=faults)
        twin, left_out = None, 0
        if reference is None:
            expected = expect_from_conformance(bundle, task)
        else:
            fitting = with_room(bundle, reference, problems)
            left_out = len(problems) - len(fitting)
            twin = quantized_twin(reference, bundle, calibration_prompts)
            expected = expect_from_policy(bundle, reference, twin, fitting)
        if not expected.ids:
            faults = faults or ["lowering: nothing to compare, the bundle records no conformance case"]
            return VerifyReport(False, "MISMATCH", model.runtime, 0, faults=faults)
        report = _judge(bundle, model, twin, expected, faults, task, cloud, limits, on_progress)
        return replace(report, notes=[*_left_out(left_out, len(problems)), *report.notes])
    except (BadLogits, BundleError) as error:
        told = f"lowering: {str(error).rstrip('.')}"
        ran = "none" if model is None else model.runtime
        return VerifyReport(False, "MISMATCH", ran, 0, faults=[*faults, told])


def _left_out(count: int, of: int) -> list[str]:
    return [f"{count} of {of} prompts leave no room in the context: the cloud gets them, unread"] if count else []


def with_recipe(limits: Thresholds, bundle: Bundle) -> Thresholds:
    """``limits`` with the share of replayed choices that the bundle's recipe must keep, unless one was given.

    Raises :class:`BundleError` for a recipe that cannot be read.
    """
    recipe = bundle.manifest.export_recipe().quantize
    rounds = recipe.cache != "float" or any(rule.bits < 32 for rule in recipe.rules)
    if limits.min_replayed_choices is not None or rounds:
        return limits
    return replace(limits, min_replayed_choices=FULL_PRECISION_CHOICES)


def _judge(
    bundle: Bundle,
    model: SimulatedModel,
    twin: Policy | None,
    expected: Expected,
    faults: list[str],
    task: Task | None,
    cloud: Cloud | None,
    limits: Thresholds,
    on_progress: Progress | None,
) -> VerifyReport:
    context, bias = bundle.manifest.model.context_length, expected.biases[0]
    noisy = None if twin is None else with_scaled_norms(twin)
    solos, replays = _run_all(bundle, model, expected, twin, noisy, on_progress)
    late = None if twin is None or noisy is None else replay_late(bundle, model, expected, twin, noisy, limits)
    # Where rounding alone moves margins as far, a flip is a near tie and not a fault.
    near = within_reach(replays[0].farthest_flips, replays[1].largest_shifts, limits.near_margin)
    replay = replays[0].result(near)
    artifact = [at(solo, b, bundle) for solo, b in zip(solos, expected.biases, strict=True)]
    as_exported = [at(solo, expected.exported_bias, bundle) for solo in solos]
    length = max(len(ids) for ids in bundle.routing.marker.token_ids)

    def hop(before: list[Decision], after: list[Decision], margin: float = limits.near_margin) -> Hop:
        return compare(before, after, margin, length)

    floor = None
    if noisy is not None:
        shaken = PolicyDecider(noisy, context).decide(expected.prompts)
        floor = NoiseFloor(hop(expected.quantized, shaken), replays[1].result(near))
    overall, lowering = hop(expected.reference, as_exported), hop(expected.quantized, artifact, near)
    sides = (expected.reference, expected.exported, as_exported)
    called = [[decision.called for decision in side] for side in sides]
    right = [answered_rightly(side, expected.problems, task, cloud) for side in (*sides, artifact)]
    changes = {"calls": _changes(*called)}
    if right[0] is not None and right[1] is not None and right[2] is not None:
        changes["accuracy"] = _changes(right[0], right[1], right[2])
    accuracy, calls_change = changes["accuracy"][0] if "accuracy" in changes else None, changes["calls"][0]
    shipped = sum(decision.called for decision in artifact)
    moved = left_calibrated(bundle.routing, shipped, len(artifact), bundle.name)
    moving = None if floor is None else floor.replay
    faults = [*faults, *find_faults(overall, lowering, replay, changes, limits, moving), *late_faults(late)]
    open_questions = [] if faults else find_notes(calls_change, accuracy, limits, replay, moving)
    if twin is None and not faults:
        open_questions += unreached(expected.ids, expected.quantized, context)
    return VerifyReport(
        passed=not faults,
        outcome="MISMATCH" if faults else "MATCH",
        runtime=model.runtime,
        n=len(artifact),
        overall=overall,
        quantization=hop(expected.reference, expected.exported),
        lowering=lowering,
        calibration=CalibrationHop(expected.exported_bias, bias, hop(expected.exported, expected.quantized)),
        replay=replay,
        late_replay=late,
        noise_floor=floor,
        call_fraction_change=changes["calls"][0],
        overall_accuracy_change=accuracy,
        overall_accuracy_reference=_share(right[0]),
        overall_accuracy_artifact=_share(right[3]),
        faults=faults,
        notes=[*([] if moved is None else [moved]), *open_questions],
        source="conformance" if twin is None else "reference",
        records=records_of(expected, artifact, right[0], right[3]),
    )


def _run_all(
    bundle: Bundle,
    model: SimulatedModel,
    expected: Expected,
    twin: Policy | None,
    noisy: Policy | None,
    on_progress: Progress | None,
) -> tuple[list[Decision], tuple[Replayer, Replayer]]:
    """The artifact's responses with the marker forbidden, and the replays of it and of the twin with scaled norms."""
    context, solos = bundle.manifest.model.context_length, []
    ours, noise = (Replayer(bundle.routing, bundle.vocabulary, context, expected.biases[0]) for _ in range(2))
    for ids, wanted in zip(expected.ids, expected.quantized, strict=True):
        solo, rows = run_forced(bundle, model, ids, wanted)
        theirs = None if twin is None else forced_logits(twin, ids, wanted.token_ids)
        ours.add(len(ids), wanted, rows, theirs)
        if noisy is not None:
            noise.add(len(ids), wanted, forced_logits(noisy, ids, wanted.token_ids), theirs)
        solos.append(solo)
        if on_progress is not None:
            on_progress(len(solos), len(expected.ids))
    return solos, (ours, noise)


def replay_late(
    bundle: Bundle, model: StepModel, expected: Expected, twin: Policy, noisy: Policy, limits: Thresholds
) -> LateReplay | None:
    """The replay of texts beyond the positions that the prompts reached; None where these reach the context's end."""
    replayer = LateReplayer(bundle.vocabulary)
    for text in late_texts(expected.ids, expected.quantized, bundle.manifest.model.context_length):
        rows = feed(model, text.prompt, text.tokens)
        shaken, theirs = (forced_logits(policy, text.prompt, text.tokens) for policy in (noisy, twin))
        replayer.add(text, rows, shaken, theirs)
    return replayer.result(limits.near_margin)


def _changes(reference: list[bool], quantized: list[bool], artifact: list[bool]) -> tuple[Change, Change, Change]:
    return Change.of(reference, artifact), Change.of(reference, quantized), Change.of(quantized, artifact)


def _share(right: list[bool] | None) -> float | None:
    return None if right is None else sum(right) / len(right)


def run_forced(bundle: Bundle, model: StepModel, ids: Sequence[int], wanted: Decision) -> tuple[Decision, list[Logits]]:
    """The artifact's own response with the marker forbidden, and its logits along ``wanted``'s tokens.

    As far as it writes these tokens itself they are the same logits; else it is fed them from the start.
    """
    context = bundle.manifest.model.context_length
    session = DecodeSession(bundle.routing, bundle.vocabulary, len(ids), context, SOLO, logits=[])
    solo = decode(model, ids, session)
    rows, tokens = session.logits or [], wanted.token_ids
    needed = wanted.margins[-1][0] + 1 if wanted.reason == "marker" and wanted.margins else len(tokens)
    if common_prefix(solo.token_ids, tokens) >= needed - 1 and len(rows) >= needed:
        return solo, [*rows[:needed], *([rows[-1]] * (len(tokens) - needed))]
    return solo, feed(model, ids, tokens)


def run_artifact(
    bundle: Bundle, model: StepModel, expected: Expected, on_progress: Progress | None = None
) -> list[Decision]:
    """The artifact's greedy decisions, one prompt after another, each at its bias."""
    decisions: list[Decision] = []
    for ids, bias in zip(expected.ids, expected.biases, strict=True):
        session = DecodeSession(bundle.routing, bundle.vocabulary, len(ids), model.context_length, bias)
        decisions.append(decode(model, ids, session))
        if on_progress is not None:
            on_progress(len(decisions), len(expected.ids))
    return decisions


def answered_rightly(
    decisions: Sequence[Decision], problems: Sequence[Problem | None], task: Task | None, cloud: Cloud | None
) -> list[bool] | None:
    """Which prompts the side that answered answers rightly; None without a task or with a prompt it cannot read."""
    if task is None or any(problem is None for problem in problems):
        return None
    right = []
    for decision, problem in zip(decisions, problems, strict=True):
        assert problem is not None
        answer = decision.answer
        if decision.called:
            answer = cloud.answer(problem) if cloud is not None else None
        right.append(task.grade(problem, answer))
    return right
