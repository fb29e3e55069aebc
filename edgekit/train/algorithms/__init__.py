"""What each algorithm makes of a batch of graded responses: one small class each, chosen here.

An algorithm's fields are the settings it reads, by their names in the configuration; what it does not read is
refused when it is set. All sample the same batches and take one on-policy update from each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from edgekit.train.algorithms.base import Algorithm, Outcomes, Plan
from edgekit.train.algorithms.collaboration import CollaborationDrGrpo, CollaborationGrpo
from edgekit.train.algorithms.da_grpo import DaGrpo
from edgekit.train.algorithms.gapg import Gapg
from edgekit.train.algorithms.task_only import TaskOnly

__all__ = ["ALGORITHMS", "Algorithm", "Outcomes", "Plan", "algorithm_of", "settings_of"]

ALGORITHMS: dict[str, type[Algorithm]] = {
    "gapg": Gapg,
    "da_grpo": DaGrpo,
    "collaboration_dr_grpo": CollaborationDrGrpo,
    "collaboration_grpo": CollaborationGrpo,
    "task_only": TaskOnly,
}


def settings_of(name: str) -> frozenset[str]:
    """The settings that the algorithm ``name`` reads."""
    return frozenset(field.name for field in fields(ALGORITHMS[name]) if field.init) - {"token_budget"}


def algorithm_of(settings: Mapping[str, Any], token_budget: int) -> Algorithm:
    """The algorithm that a training configuration's ``settings`` name, with those it reads.

    ``token_budget``: the most tokens a response may have.
    """
    name = settings["algorithm"]
    return ALGORITHMS[name](token_budget=token_budget, **{key: settings[key] for key in settings_of(name)})
