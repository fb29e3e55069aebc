"""Settings that would do nothing where they stand: refused, so that nobody believes in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.train.algorithms import ALGORITHMS, settings_of
from edgekit.warm_start.bases import PACKAGED, is_pretrained

OF_ALGORITHMS = frozenset().union(*map(settings_of, ALGORITHMS))


def idle_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Why each of a training configuration's ``settings`` that does nothing does nothing, by its name.

    All of them are given, those at their defaults too; they may be unchecked.
    """
    algorithm, base = settings["algorithm"], settings["base"]
    idle: dict[str, str] = {}
    if algorithm in ALGORITHMS:
        idle |= dict.fromkeys(sorted(OF_ALGORITHMS - settings_of(algorithm)), f"{algorithm} does not read it")
    if algorithm == "gapg" and not settings["prompt_filter"]:
        idle["call_fraction"] = "without prompt_filter there is no budget"
        idle["weigh_kept"] = "without prompt_filter every prompt is kept"
    if not settings["early_marker_share"]:
        idle |= dict.fromkeys(("early_marker_steps", "early_marker_learning_rate"), "early_marker_share is 0")
    if settings["lora_rank"] is None:
        idle |= dict.fromkeys(("lora_alpha", "lora_targets"), "lora_rank is not set")
    if settings["rollouts"] != "local":
        idle["rows_per_rollout"] = "the rollouts' server decides"
    if not settings["eval_n"]:
        idle["eval_every"] = "eval_n is 0"
    if not is_pretrained(base):
        of_warm_starts = ("warm_start", "warm_start_settings", "instruction")
        idle |= dict.fromkeys(of_warm_starts, f"{base} is not warm-started")
    elif base in PACKAGED:
        idle["instruction"] = f"{base} is prompted without a chat format"
    return idle
