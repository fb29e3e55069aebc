"""metrics.jsonl: one line a step, deterministic values only; wall-clock times go to timings.jsonl."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.atomic_write import write_file
from edgekit.errors import BundleError
from edgekit.record_lines import is_number, read_records
from edgekit.train.algorithms import Outcomes, Plan
from edgekit.train.update import UpdateReport

ALWAYS = (
    "step", "reward", "local_accuracy", "kept_accuracy", "call_fraction", "d1", "d2", "mean_tokens", "grad_norm",
)  # fmt: skip
"""What every version has written of a step."""


@dataclass(frozen=True)
class StepMetrics:
    """One step. Shares are over the step's sampled responses, before filtering.

    ``local_accuracy``: answered locally and right; ``kept_accuracy``: right among those not called;
    ``d1``: prompts some response solved, ``d2_candidates``: the others that the cloud is known to answer
    (an algorithm without a filter asks it only where a response called), ``d2``: how many of them update
    the policy, ``prompts_kept``: how many prompts do in all; ``answered``: held an answer between its delimiters, right
    or wrong; ``mean_tokens``: of all responses,
    ``tokens_before_call``: of those that called, None if none did; ``grad_norm``: before clipping, and whether it
    was ``clipped``; ``call_price``: DA-GRPO's lambda in this step; ``cloud_calls``: prompts newly sent to the cloud;
    ``moved``: of the integers of a grid, the share that differs from those the run started from, where it was looked;
    ``gap_*``: how far the update's log-probabilities lie from the rollout's, in nats, the mean over tokens and over
    responses and the largest response's, None where the rollout's are not known; ``eval_*``: greedy decoding of
    validation problems, None in steps without evaluation: ``eval_local_accuracy`` with the marker forbidden, the
    others at the natural threshold.
    """

    step: int
    reward: float
    local_accuracy: float
    kept_accuracy: float
    call_fraction: float
    d1: int
    d2_candidates: int
    d2: int
    prompts_kept: int
    answered: float
    mean_tokens: float
    loss: float
    grad_norm: float
    clipped: bool
    learning_rate: float
    cloud_calls: int
    tokens_before_call: float | None = None
    call_price: float | None = None
    moved: float | None = None
    gap_per_token: float | None = None
    gap_per_sequence: float | None = None
    gap_largest: float | None = None
    eval_local_accuracy: float | None = None
    eval_kept_accuracy: float | None = None
    eval_call_fraction: float | None = None
    eval_tokens_before_call: float | None = None


def outcome_metrics(outcomes: Outcomes) -> dict[str, Any]:
    """The shares and lengths of a step's responses."""
    flat = [outcome for group in outcomes for outcome in group]
    right, called = sum(o.correct for o in flat), sum(o.called for o in flat)
    return {
        "local_accuracy": right / len(flat),
        "kept_accuracy": right / max(1, len(flat) - called),
        "call_fraction": called / len(flat),
        "answered": sum(o.answered for o in flat) / len(flat),
        "mean_tokens": sum(o.tokens for o in flat) / len(flat),
        "tokens_before_call": sum(o.tokens for o in flat if o.called) / called if called else None,
    }


def plan_metrics(plan: Plan) -> dict[str, Any]:
    """What was earned and which prompts teach."""
    kept = plan.kept
    return {
        "reward": float(plan.rewards.mean()),
        "d1": len(kept.d1),
        "d2_candidates": len(kept.d2_candidates),
        "d2": len(kept.d2),
        "prompts_kept": len(kept.indices),
    }


def update_metrics(report: UpdateReport) -> dict[str, Any]:
    """The optimizer's step."""
    return {"loss": report.loss, "grad_norm": report.grad_norm, "clipped": report.clipped, **report.gap.metrics()}


def append_line(path: Path, record: dict[str, Any], *, sync: bool = True) -> None:
    """Append one JSON line, on disk on return if ``sync``. A crash tears at most this line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        if sync:
            os.fsync(file.fileno())


def append_metrics(path: Path, metrics: StepMetrics) -> None:
    """Append one step to metrics.jsonl; values that were not measured are left out."""
    append_line(path, {key: value for key, value in asdict(metrics).items() if value is not None})


def truncate_lines(path: Path, last_step: int) -> list[dict[str, Any]]:
    """Cut a file of lines with a ``step`` key back to ``last_step``; returns the records kept."""
    if not path.exists():
        return []
    kept = [(line, record) for line, record in read_records(path, "step") if record["step"] <= last_step]
    write_file(path, "".join(line for line, _ in kept))
    return [record for _, record in kept]


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The steps of the run in ``run_dir``, of each what is a number. Raises :class:`BundleError` if there is none."""
    path = run_dir / "metrics.jsonl"
    steps = [{key: v for key, v in record.items() if is_number(v)} for _, record in read_records(path, *ALWAYS)]
    if not steps:
        raise BundleError(f"no steps: {path}. It is empty. Restore it, or train again.")
    return steps
