"""Fitting the marker bias to a call fraction on held-out prompts.

The greedy path equals the solo path (marker forbidden) until margin + bias passes 0, however many tokens the
marker has. So the largest margin on a prompt's solo path is its score: the prompt calls exactly if score + bias > 0,
and minus the (1 - c) quantile of the scores makes the share c call. Nothing is decoded twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle.manifest import MANIFEST
from edgekit.bundle.pack import replace_routing
from edgekit.errors import CheckFailed, EdgekitError
from edgekit.evaluate.answers import Decider, call_scores
from edgekit.evaluate.intervals import mcnemar_p, wilson_interval
from edgekit.progress import Progress
from edgekit.routing.decision_rule import SOLO, calls
from edgekit.routing.decoder import Decision
from edgekit.routing.spec import ROUTING_VERSION, CalibrationFacts, RoutingSpec, load_routing

MOVED = 0.02
"""How far a share of calls may lie from the calibrated one before it is told of."""
STEP_BEYOND = 1.0
"""How far past the outermost score the bias goes when none, or every prompt, shall call."""


@dataclass(frozen=True)
class Calibration:
    """A fitted bias.

    ``reached_fraction`` is the share of the ``n`` prompts that call under it; ``interval``: the 95 % confidence
    interval of the share that calls among such prompts.
    """

    marker_bias: float
    call_fraction: float
    reached_fraction: float
    interval: tuple[float, float]
    no_answer_fraction: float
    n: int


def bias_for(scores: Sequence[float], call_fraction: float) -> float:
    """The bias under which the ``call_fraction`` highest of ``scores`` call, midway to the next one.

    Scores of +inf call whatever the bias; if they alone exceed the fraction, no other prompt calls.
    """
    ordered = sorted((score for score in scores if math.isfinite(score)), reverse=True)
    if not ordered:
        return 0.0
    always = sum(score == math.inf for score in scores)
    wanted = min(max(round(call_fraction * len(scores)) - always, 0), len(ordered))
    if wanted == 0:
        return -(ordered[0] + STEP_BEYOND)
    if wanted == len(ordered):
        return -(ordered[-1] - STEP_BEYOND)
    return -(ordered[wanted - 1] + ordered[wanted]) / 2


def calibrate(
    source: Decider, prompts: Sequence[str], call_fraction: float, on_progress: Progress | None = None
) -> Calibration:
    """Fit the bias on ``prompts``, which must not be those it will be judged on.

    Raises :class:`EdgekitError` for a fraction outside 0 to 1 or no prompts, and :class:`CheckFailed` if more
    prompts than the fraction end without an answer and so go to the cloud whatever the bias.
    """
    if not 0 <= call_fraction <= 1:
        raise EdgekitError(f"bad call fraction: {call_fraction}. It is a share. Give a number from 0 to 1.")
    if not prompts:
        raise EdgekitError("nothing to calibrate on: 0 prompts. The fit needs some. Raise --n.")
    scores = call_scores(source.decide(prompts, SOLO, on_progress))
    n, always = len(scores), sum(score == math.inf for score in scores)
    if always > call_fraction * n + 0.5:
        raise CheckFailed(
            f"call fraction not reachable: {call_fraction}. {always} of {n} prompts end without an answer and go to "
            "the cloud whatever the bias. Ask for more, or raise max_new_tokens."
        )
    bias = bias_for(scores, call_fraction)
    called = sum(calls(score, bias) for score in scores)
    return Calibration(bias, call_fraction, called / n, wilson_interval(called, n), always / n, n)


def left_calibrated(routing: RoutingSpec, called: int, n: int, source: str) -> str | None:
    """What to say where ``called`` of ``n`` prompts are no longer the share that ``routing`` was calibrated to.

    None where they are, by the 95 % interval and :data:`MOVED`, and where nothing was calibrated.
    """
    wanted = routing.calibrated_call_fraction
    if wanted is None or n == 0:
        return None
    low, high = wilson_interval(called, n)
    if low <= wanted <= high or abs(called / n - wanted) <= MOVED:
        return None
    return (
        f"{called / n:.1%} of {n} prompts call, and it was calibrated to {wanted:.1%}: the budget does not hold "
        f"(95 %: {low:.1%} to {high:.1%}). Calibrate it: edgekit calibrate {source} --call-fraction {wanted:g}"
    )


def matching_bias(before: Sequence[Decision], bias: float, quantized: Decider, prompts: Sequence[str]) -> float:
    """The bias under which ``quantized`` calls on as many of ``prompts`` as its reference, which decided ``before``.

    It stays ``bias``, the reference's, where the flips each way there differ by no more than chance would have it
    (McNemar's exact test, 5 %): a crisp policy's margins lie far from 0, and a threshold moved into their midst to
    make up for a few chance flips costs more decisions than it saves.
    """
    scores = call_scores(quantized.decide(prompts, SOLO))
    after = [calls(score, bias) for score in scores]
    gained = sum(called and not decision.called for decision, called in zip(before, after, strict=True))
    lost = sum(decision.called and not called for decision, called in zip(before, after, strict=True))
    if mcnemar_p(gained, lost) >= 0.05:
        return bias
    return bias_for(scores, sum(decision.called for decision in before) / len(prompts))


def calibration_facts(calibration: Calibration, task: str, split: str, seed: int) -> CalibrationFacts:
    """What routing.json keeps of a fit on the task's problems of that split, drawn with ``seed``."""
    return CalibrationFacts(
        task=task,
        split=split,
        n=calibration.n,
        seed=seed,
        reached_fraction=calibration.reached_fraction,
        interval=calibration.interval,
        marker_bias=calibration.marker_bias,
    )


def apply_calibration(
    routing: RoutingSpec, calibration: Calibration, facts: CalibrationFacts | None = None
) -> RoutingSpec:
    """``routing`` with the fitted bias, and on what it was fitted."""
    update = {
        "version": ROUTING_VERSION,
        "marker_bias": calibration.marker_bias,
        "calibrated_call_fraction": calibration.call_fraction,
        "calibration": facts,
    }
    return routing.model_copy(update=update)


def store_calibration(path: Path, calibration: Calibration, facts: CalibrationFacts | None = None) -> Path:
    """Write the bias into the routing.json of a bundle (its hash too), run or policy folder; returns the file."""
    if (path / MANIFEST).exists():
        file = path / "routing.json"
        replace_routing(path, apply_calibration(load_routing(file), calibration, facts))
        return file
    folder = path / "policy" if (path / "policy").is_dir() else path
    file = folder / "routing.json"
    apply_calibration(load_routing(file), calibration, facts).save(file)
    return file
