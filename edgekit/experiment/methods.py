"""The methods an experiment compares: how each decides, and the training run it is judged on."""

from __future__ import annotations

from typing import Any

from edgekit.experiment.routers import ROUTERS

TASK_ONLY = "task_only"
"""The run that task-only tuning makes; every method that decides from outside is judged on its policy."""

WARM_START = "warm_start"
"""The policy that every run of a seed starts from, not trained further: beside it, what reinforcement adds is seen."""

ON_GAPG = {"verdict_on_gapg": "own_verdict", "probe_on_gapg": "hidden_probe"}
"""Routers on GAPG's own policy in place of its marker: what the marker knows that they do not, and the reverse."""

BLIND = (TASK_ONLY, "naive_offloading", "oracle_router", "cloud_only")
"""Methods that read neither a prompt nor its answer: they are fitted to nothing, and no text can make them call."""

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

RUNS: dict[str, dict[str, Any]] = {TASK_ONLY: {"algorithm": TASK_ONLY}, WARM_START: {}, **MARKER}
"""What each built-in training run sets; the warm start's is none, it only has the settings of what it starts from."""

METHODS = (*OUTSIDE, WARM_START, *MARKER, *ON_GAPG)


def run_of(method: str) -> str:
    """The training run ``method`` is judged on; a method that is not built in has one of its own."""
    if method in OUTSIDE:
        return TASK_ONLY
    return "gapg" if method in ON_GAPG else method


def router_of(method: str) -> str | None:
    """The router that decides for ``method``; None if none does."""
    return method if method in ROUTERS else ON_GAPG.get(method)
