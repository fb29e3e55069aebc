"""Routers by name: what decides from outside the policy, to compare with a policy that decides itself."""

from __future__ import annotations

from edgekit.experiment.routers.base import Fit, Router, Scorer
from edgekit.experiment.routers.token_entropy import fit_token_entropy

ROUTERS = {
    "token_entropy": Router(fit_token_entropy, before_attempt=False),
}

__all__ = ["ROUTERS", "Fit", "Router", "Scorer"]
