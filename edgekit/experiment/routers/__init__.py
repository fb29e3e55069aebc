"""Routers by name: what decides from outside the policy, to compare with a policy that decides itself."""

from __future__ import annotations

from edgekit.experiment.routers.base import Fit, Router, Scorer
from edgekit.experiment.routers.classifier import fit_answer_router, fit_prompt_router
from edgekit.experiment.routers.hidden_probe import fit_hidden_probe, fit_hidden_probe_prompt
from edgekit.experiment.routers.own_verdict import fit_own_verdict
from edgekit.experiment.routers.pretrained import pretrained_router
from edgekit.experiment.routers.sample_agreement import SAMPLES, fit_sample_agreement
from edgekit.experiment.routers.token_entropy import fit_token_entropy

ROUTERS = {
    "prompt_router": Router(fit_prompt_router, before_attempt=True, encoder_reads="prompt"),
    "answer_router": Router(fit_answer_router, before_attempt=False, encoder_reads="answer"),
    "hidden_probe": Router(fit_hidden_probe, before_attempt=False),
    "hidden_probe_prompt": Router(fit_hidden_probe_prompt, before_attempt=True),
    "own_verdict": Router(fit_own_verdict, before_attempt=False, is_fitted=False),
    "token_entropy": Router(fit_token_entropy, before_attempt=False, is_fitted=False),
    "sample_agreement": Router(fit_sample_agreement, before_attempt=False, is_fitted=False, samples=SAMPLES),
}

__all__ = ["ROUTERS", "Fit", "Router", "Scorer", "find_router"]


def find_router(name: str, encoder: str | None = None) -> Router:
    """The router called ``name``; with an ``encoder``, classifiers of texts stand on that pretrained model instead."""
    router = ROUTERS[name]
    if encoder is not None and router.encoder_reads is not None:
        return pretrained_router(encoder, router.encoder_reads)
    return router
