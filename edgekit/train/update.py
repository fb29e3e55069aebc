"""One policy-gradient step of an optimizer over a policy's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgekit.policy.model import PolicyModel
from edgekit.train.config import TrainConfig
from edgekit.train.loss import Sample, batches, policy_gradient_loss, response_log_probs
from edgekit.train.parallel import ALONE, Ranks


class PolicyUpdate:
    """The optimizer of a run and how a batch becomes its step; ``ranks`` each take a share of it."""

    def __init__(self, model: PolicyModel, config: TrainConfig, ranks: Ranks = ALONE) -> None:
        self.model, self.config, self.ranks = model, config, ranks
        self.optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)

    def apply(self, samples: Sequence[Sample], prompts: int, learning_rate: float) -> tuple[float, float]:
        """One step on ``samples`` of ``prompts`` groups; returns the loss and the gradient's norm before clipping.

        ``samples`` are this process's, ``prompts`` all the processes' groups; what is returned is the whole step's.
        """
        loss = 0.0
        self.optimizer.zero_grad()
        for batch in batches(samples, self.config.rows_per_forward):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bfloat16):
                log_probs = response_log_probs(self.model, batch, self.config.temperature)
            part = policy_gradient_loss(log_probs, batch.advantages, prompts)
            torch.autograd.backward(part)
            loss += part.item()
        loss = self.ranks.add_gradients(list(self.model.parameters()), loss)
        if not any(parameter.grad is not None for parameter in self.model.parameters()):
            return 0.0, 0.0  # every kept group's rewards are equal: nothing to learn from this batch
        limit = self.config.grad_clip if self.config.grad_clip is not None else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        return loss, float(norm)
