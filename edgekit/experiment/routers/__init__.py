"""Routers by name: what decides from outside the policy, to compare with a policy that decides itself."""

from __future__ import annotations

from edgekit.experiment.routers.base import Fit, Router, Scorer
from edgekit.experiment.routers.classifier import fit_answer_router, fit_prompt_router
from edgekit.experiment.routers.hidden_probe import fit_hidden_probe, fit_hidden_probe_prompt
from edgekit.experiment.routers.pretrained import Reads, pretrained_router
from edgekit.experiment.routers.token_entropy import fit_token_entropy

READS: dict[str, Reads] = {"prompt_router": "prompt", "answer_router": "answer"}
ROUTERS = {
    "prompt_router": Router(fit_prompt_router, before_attempt=True),
    "answer_router": Router(fit_answer_router, before_attempt=False),
    "hidden_probe": Router(fit_hidden_probe, before_attempt=False),
    "hidden_probe_prompt": Router(fit_hidden_probe_prompt, before_attempt=True),
    "token_entropy": Router(fit_token_entropy, before_attempt=False),
}

__all__ = ["ROUTERS", "Fit", "Router", "Scorer", "find_router"]


def find_router(name: str, encoder: str | None = None) -> Router:
    """The router called ``name``; with an ``encoder``, the two classifiers stand on that pretrained model instead."""
    if encoder is not None and name in READS:
        return pretrained_router(encoder, READS[name])
    return ROUTERS[name]
