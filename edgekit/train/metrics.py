"""metrics.jsonl: one line a step, deterministic values only; wall-clock times go to timings.jsonl."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.atomic_write import owner_only, write_file


@dataclass(frozen=True)
class StepMetrics:
    """One step. Shares are over the step's sampled responses, before filtering.

    ``local_accuracy``: answered locally and right; ``kept_accuracy``: right among those not called;
    ``d1``: prompts some response solved, ``d2_candidates``: the others that the cloud is known to answer
    (an algorithm without a filter asks it only where a response called), ``d2``: how many of them update
    the policy, ``prompts_kept``: how many prompts do in all; ``mean_tokens``: of all responses,
    ``tokens_before_call``: of those that called, None if none did; ``call_price``: DA-GRPO's lambda in this
    step; ``cloud_calls``: prompts newly sent to the cloud; ``eval_*``: greedy decoding of validation problems,
    None in steps without evaluation: ``eval_local_accuracy`` with the marker forbidden, the others at the
    natural threshold.
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
    mean_tokens: float
    loss: float
    grad_norm: float
    learning_rate: float
    cloud_calls: int
    tokens_before_call: float | None = None
    call_price: float | None = None
    eval_local_accuracy: float | None = None
    eval_kept_accuracy: float | None = None
    eval_call_fraction: float | None = None
    eval_tokens_before_call: float | None = None


def append_line(path: Path, record: dict[str, Any], *, sync: bool = True, private: bool = False) -> None:
    """Append one JSON line, on disk on return if ``sync``. A crash tears at most this line.

    ``private``: a file made here is its owner's alone.
    """
    with open(path, "a", encoding="utf-8", opener=owner_only if private else None) as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        if sync:
            os.fsync(file.fileno())


def append_metrics(path: Path, metrics: StepMetrics) -> None:
    """Append one step to metrics.jsonl; values that were not measured are left out."""
    append_line(path, {key: value for key, value in asdict(metrics).items() if value is not None})


def truncate_lines(path: Path, last_step: int, *, private: bool = False) -> list[dict[str, Any]]:
    """Cut a file of lines with a ``step`` key back to ``last_step``; returns the records kept."""
    if not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        record = json.loads(line)
        if record["step"] <= last_step:
            kept.append((line, record))
    write_file(path, "".join(line for line, _ in kept), private=private)
    return [record for _, record in kept]
