"""The prompt router and the answer router on a pretrained ``transformers`` encoder, for policies that read text.

The paper's is DeBERTa-v3-large; ModernBERT is its newer relative. ``AutoModelForSequenceClassification`` gets one
output, the log-odds of a wrong answer, and is fine-tuned whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgekit.errors import BackendMissing, EdgekitError, install_hint
from edgekit.experiment.attempts import Attempts
from edgekit.experiment.routers.base import Reads, Router, Scorer
from edgekit.experiment.routers.fitting import FitSettings, Logits, log_odds, train_classifier
from edgekit.policy.checkpoint import Policy

SETTINGS = FitSettings(epochs=5, learning_rate=2e-5, batch_size=32, warm_up_steps=50)
LONGEST = 1024
"""Tokens read; of a longer text the beginning is left out, for the answer stands at the end."""


def pretrained_router(name: str, reads: Reads, settings: FitSettings = SETTINGS) -> Router:
    """The router of the model called ``name`` (a hub name, or a folder); "answer" reads prompt and response."""

    def fit(policy: Policy, train: Attempts, *, seed: int) -> Scorer:
        device = policy.model.lm_head.weight.device
        with torch.random.fork_rng():  # the new head and dropout draw from the global generator
            torch.manual_seed(seed)
            model, tokenizer = _load(name)
            model.to(device)
            positions = getattr(model.config, "max_position_embeddings", LONGEST)
            longest = min(LONGEST, tokenizer.model_max_length, positions)

            def encode(attempts: Attempts, **options: Any) -> Any:
                return tokenizer(*texts(attempts, reads), truncation=True, max_length=longest, **options)

            def logits_of(attempts: Attempts) -> tuple[Logits, list[int]]:
                def logits(rows: list[int]) -> Tensor:
                    batch = encode(attempts.select(rows), padding=True, return_tensors="pt").to(device)
                    found: Tensor = model(**batch).logits
                    return found[:, 0]

                return logits, [len(ids) for ids in encode(attempts)["input_ids"]]

            train_classifier(model, *logits_of(train), train, settings, seed)
        return lambda attempts: log_odds(*logits_of(attempts), range(len(attempts))).tolist()

    return Router(fit, before_attempt=reads == "prompt")


def texts(attempts: Attempts, reads: Reads) -> tuple[list[str], ...]:
    """What the classifier reads: the prompts, and for "answer" the responses beside them."""
    prompts = [problem.prompt for problem in attempts.problems]
    return (prompts,) if reads == "prompt" else (prompts, [made.text for made in attempts.decisions])


def _load(name: str) -> tuple[Any, Any]:
    """The model with a fresh one-output head, and its tokenizer. In float32: half precision diverges in training.

    Raises :class:`BackendMissing` without transformers, :class:`EdgekitError` if the model cannot be had.
    """
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError:
        raise BackendMissing(
            f"no transformers: a pretrained router needs it. It is not installed. {install_hint('router')}."
        ) from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, ignore_mismatched_sizes=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EdgekitError(f"no router model: {name}. {reason}. Name a sequence encoder or its folder.") from None
    tokenizer.truncation_side = "left"
    return model.float(), tokenizer
