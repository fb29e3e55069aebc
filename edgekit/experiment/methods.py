"""The methods an experiment compares: how each decides, and the training run it is judged on."""

from __future__ import annotations

from typing import Any

from edgekit.experiment.routers import ROUTERS

TASK_ONLY = "task_only"
"""The run that task-only tuning makes; every method that decides from outside is judged on its policy."""

OUTSIDE = (TASK_ONLY, "naive_offloading", *ROUTERS, "oracle_router", "cloud_only")
"""Methods whose policy knows no cloud: something else, or nothing, decides about it."""

MARKER: dict[str, dict[str, Any]] = {
    "collaboration_grpo": {"algorithm": "collaboration_grpo"},
    "collaboration_dr_grpo": {"algorithm": "collaboration_dr_grpo"},
    "gapg": {"algorithm": "gapg"},
    "gapg_early": {"algorithm": "gapg", "alpha_e": 0.25, "early_marker_share": 0.5},
    "da_grpo": {"algorithm": "da_grpo"},
}
"""Methods whose policy decides itself, by its marker, and what their training sets. An experiment may add others."""

RUNS: dict[str, dict[str, Any]] = {TASK_ONLY: {"algorithm": TASK_ONLY}, **MARKER}
"""What each built-in training run sets."""

METHODS = (*OUTSIDE, *MARKER)


def run_of(method: str) -> str:
    """The training run ``method`` is judged on; a method that is not built in has one of its own."""
    return TASK_ONLY if method in OUTSIDE else method
