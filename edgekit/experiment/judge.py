"""Judging one method on one trained policy: scores, thresholds from validation, decisions on test.

No method sees a test problem before its thresholds are fixed. What stands for the cloud's cost is the same for all:
a prompt that the router, the marker or a missing answer hands off is one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgekit.evaluate.answers import PolicyDecider
from edgekit.evaluate.metrics import tokens_before_call
from edgekit.experiment.attempts import Attempts, attempt
from edgekit.experiment.candidate import Candidate
from edgekit.experiment.methods import router_of
from edgekit.experiment.routers import find_router
from edgekit.experiment.routers.base import Scorer
from edgekit.experiment.thresholds import fit_threshold, hands_off, oracle_scores, random_scores, with_forced
from edgekit.experiment.triggers import Search, attack
from edgekit.tasks.base import Problem

BEFORE_ATTEMPT = ("naive_offloading", "oracle_router")
"""Methods that need no attempt to decide, besides the routers that say so themselves."""


@dataclass(frozen=True)
class Verdict:
    """What a method came to; the rest as in a result file, ``scores`` (n_test,) of the test."""

    scores: list[float]
    budgets: list[dict[str, Any]]
    natural: dict[str, Any] | None = None
    training_prompts: int = 0
    notes: str = ""
    trigger: dict[str, Any] | None = None


def judge(method: str, candidate: Candidate, fractions: Sequence[float]) -> Verdict:
    """Hold ``method`` to each of ``fractions`` on ``candidate``'s policy and see what it decides on test."""
    if method == "task_only":
        return _fixed(candidate, fractions, called=False, notes="No cloud: an attempt without an answer is wrong.")
    if method == "cloud_only":
        return _fixed(candidate, fractions, called=True, notes="Everything goes to the cloud, whatever the budget.")
    if (router := router_of(method)) is not None:
        return _router(method, router, candidate, fractions)
    if method in BEFORE_ATTEMPT:
        return _order(method, candidate, fractions)
    return _marker(candidate, fractions)


def _fixed(candidate: Candidate, fractions: Sequence[float], *, called: bool, notes: str) -> Verdict:
    test, n = candidate.test, len(candidate.test)
    tokens = [0] * n if called else test.device_tokens
    correct = candidate.exam.cloud_test if called else test.correct
    budgets = [
        {"call_fraction": c, "threshold": None, "calls": [called] * n, "correct": correct, "device_tokens": tokens}
        for c in fractions
    ]
    return Verdict([math.inf if called else 0.0] * n, budgets, notes=notes)


def _router(method: str, name: str, candidate: Candidate, fractions: Sequence[float]) -> Verdict:
    router = find_router(name, candidate.exam.router_encoder)
    train = candidate.router_train if router.is_fitted else candidate.validation
    candidate.tell(f"fitting {method}")
    score = router.fit(candidate.policy, train, seed=candidate.seed)
    candidate.tell(f"scoring with {method}")
    notes = f"Local accuracy {_mean(candidate.validation.correct):.3f} on validation"
    notes += f", {_mean(train.correct):.3f} on the problems it was fitted to." if router.is_fitted else ". Not fitted."
    validation = score(candidate.sampled(candidate.validation, router.samples))
    test = candidate.sampled(candidate.test, router.samples)
    verdict = _outside(
        method, candidate, fractions, validation, lambda: score(test), device_tokens=test.device_tokens,
        before_attempt=router.before_attempt, training_prompts=len(train) * router.is_fitted, notes=notes,
    )  # fmt: skip
    return replace(verdict, trigger=_trigger(method, candidate, verdict, score, router.samples))


def _order(method: str, candidate: Candidate, fractions: Sequence[float]) -> Verdict:
    exam, seed = candidate.exam, candidate.seed
    if method == "naive_offloading":
        notes = "A pseudo-random order of the problems, fixed by the seed."
        validation = random_scores(exam.validation, seed)
        return _outside(
            method, candidate, fractions, validation, lambda: random_scores(exam.test, seed),
            before_attempt=True, notes=notes,
        )  # fmt: skip
    notes = "Upper bound, no method: its order comes from the truth about the test problems."
    validation = oracle_scores(exam.validation, candidate.validation.correct, exam.cloud_validation, seed)
    return _outside(
        method, candidate, fractions, validation,
        lambda: oracle_scores(exam.test, candidate.test.correct, exam.cloud_test, seed),
        before_attempt=True, notes=notes,
    )  # fmt: skip


def _outside(
    method: str,
    candidate: Candidate,
    fractions: Sequence[float],
    validation: Sequence[float],
    score_test: Callable[[], list[float]],
    *,
    device_tokens: list[int] | None = None,
    before_attempt: bool,
    training_prompts: int = 0,
    notes: str,
) -> Verdict:
    """A method that orders problems by a score. ``score_test`` is called when every threshold is fixed.

    ``device_tokens``: what each attempt cost on the device; None means the attempts' own lengths.
    """
    fitted_on = with_forced(validation, _forced(candidate.validation), method)
    thresholds = [fit_threshold(fitted_on, fraction) for fraction in fractions]
    raw, test = score_test(), candidate.test
    scores = with_forced(raw, _forced(test), method)
    attempted = device_tokens or test.device_tokens
    budgets = []
    for fraction, threshold in zip(fractions, thresholds, strict=True):
        calls = hands_off(scores, threshold)
        # A prompt that goes off for want of an answer was attempted, unless the score had sent it off before.
        spared = hands_off(raw, threshold) if before_attempt else [False] * len(raw)
        tokens = [0 if free else n for free, n in zip(spared, attempted, strict=True)]
        correct = _overall(calls, test.correct, candidate.exam.cloud_test)
        budgets.append(_budget(fraction, threshold, fitted_on, calls, correct, tokens))
    return Verdict(scores, budgets, training_prompts=training_prompts, notes=notes)


def _marker(candidate: Candidate, fractions: Sequence[float]) -> Verdict:
    """A policy that decides by its marker: the bias from validation, then each test prompt decoded with it."""
    fitted_on = with_forced(_margins(candidate.validation), _forced(candidate.validation), "the marker")
    thresholds = [fit_threshold(fitted_on, fraction) for fraction in fractions]
    budgets = []
    for fraction, threshold in zip(fractions, thresholds, strict=True):
        candidate.tell(f"test problems, {fraction:.0%} calls")
        decided = _decode(candidate, -threshold)
        reached = _budget(
            fraction, threshold, fitted_on, decided["calls"], decided["correct"], decided["device_tokens"]
        )
        budgets.append(reached)
    candidate.tell("test problems, no bias")
    scores = with_forced(_margins(candidate.test), _forced(candidate.test), "the marker")
    verdict = Verdict(scores, budgets, natural=_decode(candidate, 0.0), notes="Decides by its own marker.")
    return replace(verdict, trigger=_trigger("the marker", candidate, verdict, _margins))


def _margins(attempts: Attempts) -> list[float]:
    return [decision.marker_margin for decision in attempts.decisions]


def _trigger(
    method: str, candidate: Candidate, verdict: Verdict, scorer: Scorer, samples: int = 0
) -> dict[str, Any] | None:
    """What a searched prefix does to the method, if the experiment asks for it."""
    exam = candidate.exam
    if not exam.trigger_tries:
        return None

    def score(problems: Sequence[Problem]) -> list[float]:
        attempts = candidate.sampled(attempt(candidate.policy, exam.task, problems), samples)
        return with_forced(scorer(attempts), _forced(attempts), method)

    candidate.tell("searching a prefix that makes it call")
    thresholds = {budget["call_fraction"]: budget["threshold"] for budget in verdict.budgets}
    search = Search(exam.trigger_tries, candidate.seed)
    return attack(
        candidate.policy, exam.router_train, exam.test, score, verdict.scores, thresholds,
        candidate.test.correct, exam.cloud_test, search,
    )  # fmt: skip


def _decode(candidate: Candidate, bias: float) -> dict[str, Any]:
    """What the policy does with the test problems under ``bias``, decoded anew as a phone would."""
    exam, routing = candidate.exam, candidate.policy.routing
    decisions = PolicyDecider(candidate.policy).decide([problem.prompt for problem in exam.test], bias)
    calls = [decision.called for decision in decisions]
    kept = [exam.task.grade(problem, made.answer) for problem, made in zip(exam.test, decisions, strict=True)]
    tokens = [tokens_before_call(decision, routing) for decision in decisions]
    return {"calls": calls, "correct": _overall(calls, kept, exam.cloud_test), "device_tokens": tokens}


def _budget(
    fraction: float,
    threshold: float,
    fitted_on: Sequence[float],
    calls: list[bool],
    correct: list[bool],
    device_tokens: list[int],
) -> dict[str, Any]:
    return {
        "call_fraction": fraction,
        "threshold": threshold,
        "validation_fraction": _mean(hands_off(fitted_on, threshold)),
        "calls": calls,
        "correct": correct,
        "device_tokens": device_tokens,
    }


def _forced(attempts: Attempts) -> list[bool]:
    """Which problems go to the cloud because the attempt ended without an answer (routing.json says whether)."""
    return [decision.called for decision in attempts.decisions]


def _overall(calls: Sequence[bool], local: Sequence[bool], cloud: Sequence[bool]) -> list[bool]:
    return [there if called else here for called, here, there in zip(calls, local, cloud, strict=True)]


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values)
