"""One policy-gradient step of an optimizer over a policy's weights, or over adapters of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgekit.policy.model import PolicyModel
from edgekit.train.batches import Sample, batches
from edgekit.train.config import TrainConfig
from edgekit.train.lora import merge_adapters, with_adapters
from edgekit.train.loss import policy_gradient_loss, response_log_probs
from edgekit.train.parallel import ALONE, Ranks


class PolicyUpdate:
    """The optimizer of a run and how a batch becomes its step; ``ranks`` each take a share of it.

    ``model`` is what is trained and checkpointed: the policy's own model, or its twin with adapters.
    """

    def __init__(self, policy_model: PolicyModel, config: TrainConfig, ranks: Ranks = ALONE) -> None:
        self.policy_model, self.config, self.ranks = policy_model, config, ranks
        self.model = policy_model if config.lora_rank is None else with_adapters(policy_model, config)
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.trained, lr=config.learning_rate, fused=True)

    def apply(self, samples: Sequence[Sample], prompts: int, learning_rate: float) -> tuple[float, float]:
        """One step on ``samples`` of ``prompts`` groups; returns the loss and the gradient's norm before clipping.

        ``samples`` are this process's, ``prompts`` all the processes' groups; what is returned is the whole step's.
        """
        loss = 0.0
        self.optimizer.zero_grad()
        device = self.model.cos.device
        for batch in batches(samples, self.config.rows_per_forward):
            batch = batch.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.config.bfloat16):
                log_probs = response_log_probs(
                    self.model, batch, self.config.temperature, checkpointing=self.config.gradient_checkpointing
                )
            part = policy_gradient_loss(log_probs, batch.advantages, prompts)
            torch.autograd.backward(part)
            loss += part.item()
        loss = self.ranks.add_gradients(self.trained, loss)
        if not any(parameter.grad is not None for parameter in self.trained):
            return 0.0, 0.0  # every kept group's rewards are equal: nothing to learn from this batch
        limit = self.config.grad_clip if self.config.grad_clip is not None else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.trained, limit)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.merge()
        return loss, float(norm)

    def merge(self) -> None:
        """Bring the policy's own weights up to date with the adapters, where there are any."""
        if self.model is not self.policy_model:
            merge_adapters(self.model, self.policy_model)
