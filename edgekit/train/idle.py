"""Settings that would do nothing where they stand: refused, so that nobody believes in them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from edgekit.train.algorithms import ALGORITHMS, settings_of
from edgekit.warm_start.bases import is_pretrained

if TYPE_CHECKING:
    from edgekit.train.config import TrainConfig

OF_ALGORITHMS = frozenset().union(*map(settings_of, ALGORITHMS))


def idle_settings(config: TrainConfig) -> dict[str, str]:
    """Why each setting that does nothing in ``config`` does nothing, by its name; ``config`` may be unchecked."""
    idle: dict[str, str] = {}
    if config.algorithm in ALGORITHMS:
        read = settings_of(config.algorithm)
        idle |= dict.fromkeys(sorted(OF_ALGORITHMS - read), f"{config.algorithm} does not read it")
    if config.algorithm == "gapg" and not config.prompt_filter:
        idle["call_fraction"] = "without prompt_filter there is no budget"
    if not config.early_marker_share:
        idle |= dict.fromkeys(("early_marker_steps", "early_marker_learning_rate"), "early_marker_share is 0")
    if config.lora_rank is None:
        idle |= dict.fromkeys(("lora_alpha", "lora_targets"), "lora_rank is not set")
    if config.rollouts != "local":
        idle["rows_per_rollout"] = "the rollouts' server decides"
    if not config.eval_n:
        idle["eval_every"] = "eval_n is 0"
    if not is_pretrained(config.base):
        of_warm_starts = ("warm_start", "warm_start_settings", "instruction")
        idle |= dict.fromkeys(of_warm_starts, f"{config.base} is not warm-started")
    return idle


def without_idle(data: dict[str, Any], config: TrainConfig, given: Collection[str] = ()) -> dict[str, Any]:
    """``data`` less what does nothing in the unchecked ``config``, but for the keys that were ``given`` on purpose."""
    idle = idle_settings(config)
    return {key: value for key, value in data.items() if key not in idle or key in given}
