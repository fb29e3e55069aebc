"""Whether a run learns: what goes wrong without an error, told when it happens and again at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

Steps = Sequence[Mapping[str, Any]]
"""The lines of metrics.jsonl so far."""

IDLE_STEPS = 3
"""So many steps in a row without a gradient are told of."""
FIRST_STEPS, WEAK_BASE = 3, 0.02
"""A base that is right in less than this share of the first steps' responses is told of."""
SILENT_STEPS = 10
"""So many steps in a row in which no response called are told of."""
UNMOVED_STEPS = 10
"""After so many steps on a grid, or at the end of fewer, it is told of if no integer is another."""
CLIPPED_SHARE = 0.1
"""Of the steps, above which clipping is no guard against outliers any more but a way to normalize."""


PASSING = ("idle", "unmoved")
"""Kinds that are told again at the end only if they still hold."""


@dataclass(frozen=True)
class Finding:
    """One thing to know about a run before believing in it. ``kind`` tells it from others, ``text`` is a sentence."""

    kind: str
    text: str


def learned_nothing(steps: Steps) -> bool:
    """Whether no step moved the weights: in no group did one response earn more than another."""
    return bool(steps) and all(step["grad_norm"] == 0.0 for step in steps)


def findings_now(steps: Steps, algorithm: str) -> list[Finding]:
    """What is wrong as of the last of ``steps``."""
    found = [_idle(steps), _weak_base(steps), _formless(steps)]
    if len(steps) >= UNMOVED_STEPS:
        found.append(_unmoved(steps))
    if algorithm != "task_only":
        found.append(_silent(steps))
    return [finding for finding in found if finding is not None]


def findings_at_end(steps: Steps, algorithm: str) -> list[Finding]:
    """What was wrong with a run of these ``steps``: all that was told of on the way, and what only the whole shows."""
    found: dict[str, Finding] = {}
    for end in range(1, len(steps) + 1):
        for finding in findings_now(steps[:end], algorithm):
            if finding.kind not in PASSING:
                found.setdefault(finding.kind, finding)
    last = _idle(steps)
    idle = sum(step["grad_norm"] == 0.0 for step in steps)
    if last is not None:
        found["idle"] = last
    elif idle >= IDLE_STEPS and 2 * idle >= len(steps):
        found["idle"] = Finding("idle", f"no prompt taught anything in {idle} of {len(steps)} steps. {_MORE_SIGNAL}")
    unmoved = _unmoved(steps)
    if unmoved is not None:
        found["unmoved"] = unmoved
    clipped = [step["clipped"] for step in steps if "clipped" in step]
    share = sum(clipped) / len(clipped) if clipped else 0.0
    if share > CLIPPED_SHARE:
        text = (
            f"grad_clip clipped {share:.0%} of the steps: those have its length whatever their gradient, "
            "so the learning rate alone decides how far they go. Raise grad_clip, or set it to null."
        )
        found["clipped"] = Finding("clipped", text)
    return list(found.values())


_MORE_SIGNAL = "Raise group_size or temperature, take an easier task, or warm-start longer (warm_start_settings)."


def _idle(steps: Steps) -> Finding | None:
    idle = len(list(takewhile(lambda step: step["grad_norm"] == 0.0, reversed(steps))))
    if idle < IDLE_STEPS:
        return None
    return Finding(
        "idle",
        f"nothing was learned in the last {idle} steps: in no group did one response earn more than another. "
        f"If the reward is near 0, the policy has collapsed, or never began: lower learning_rate. {_MORE_SIGNAL}",
    )


def _weak_base(steps: Steps) -> Finding | None:
    first = [step["local_accuracy"] for step in steps[:FIRST_STEPS] if "local_accuracy" in step]
    share = sum(first) / max(1, len(first))
    if len(first) < FIRST_STEPS or share >= WEAK_BASE:
        return None
    return Finding(
        "weak_base",
        f"the base answers {share:.1%} of the first {FIRST_STEPS} steps' samples rightly: there is almost nothing to "
        "learn solving from. Warm-start longer (warm_start_settings), or take an easier task or a larger model.",
    )


def _formless(steps: Steps) -> Finding | None:
    last = [step for step in steps[-FIRST_STEPS:] if "answered" in step]
    if len(last) < FIRST_STEPS or any(step["answered"] > 0 or step["call_fraction"] > 0.99 for step in last):
        return None
    return Finding(
        "formless",
        f"no response of {FIRST_STEPS} steps holds an answer between the answer's delimiters (routing.json: answer). "
        "Warm-start longer (warm_start_settings), say the format in instruction, or raise max_new_tokens.",
    )


def _unmoved(steps: Steps) -> Finding | None:
    looked = [step for step in steps if step.get("moved") is not None]
    if not looked or looked[-1]["moved"] > 0 or learned_nothing(steps):
        return None
    return Finding(
        "unmoved",
        f"the rounded weights did not move in {looked[-1]['step']} steps: none has another integer, only norms and "
        "scales were trained. Raise learning_rate, or start from a base in floats, or from one on this grid that keeps "
        "the floats behind it (floats/).",
    )


def _silent(steps: Steps) -> Finding | None:
    last = [step["call_fraction"] for step in steps[-SILENT_STEPS:] if "call_fraction" in step]
    if len(last) < SILENT_STEPS or any(last):
        return None
    return Finding(
        "dead_marker",
        f"no response called the cloud in {SILENT_STEPS} steps: a marker that is never sampled cannot be learned. "
        "Lower learning_rate or add warmup_steps, raise alpha_c, or warm-start with more calls "
        "(warm_start_settings.marker_after_wrong).",
    )
