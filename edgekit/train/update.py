"""One policy-gradient step of an optimizer over what a run trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from edgekit.errors import EdgekitError, NotFinite
from edgekit.policy.model import PolicyModel
from edgekit.recipes.quant_recipe import QuantRecipe
from edgekit.train.batches import Batch, Sample, batches
from edgekit.train.config import TrainConfig
from edgekit.train.forward_rows import forward_rows
from edgekit.train.gap import LogProbGap, importance_weights, total_gap
from edgekit.train.loss import policy_gradient_loss, sequence_log_probs, token_log_probs
from edgekit.train.parallel import ALONE, Ranks
from edgekit.train.weights import trained_weights


@dataclass(frozen=True)
class UpdateReport:
    """A step: its loss, the gradient's norm before clipping, whether that was clipped, and :class:`LogProbGap`."""

    loss: float
    grad_norm: float
    clipped: bool
    gap: LogProbGap


class PolicyUpdate:
    """The optimizer of a run and how a batch becomes its step; ``ranks`` each take a share of it.

    ``recipe``: the grid on which ``policy_model`` is trained, None for floats.
    """

    def __init__(
        self,
        policy_model: PolicyModel,
        config: TrainConfig,
        ranks: Ranks = ALONE,
        recipe: QuantRecipe | None = None,
    ) -> None:
        self.config, self.ranks = config, ranks
        self.weights = trained_weights(policy_model, config, recipe)
        self.trained = [parameter for parameter in self.weights.moved.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.trained, lr=config.learning_rate, fused=True)

    def apply(self, samples: Sequence[Sample], prompts: int, learning_rate: float) -> UpdateReport:
        """One step on ``samples``, their sum divided by ``prompts``; the policy's weights are the new ones on return.

        ``samples`` are this process's, ``prompts`` is of all the processes; what is returned is the whole step's.
        Raises :class:`NotFinite` before anything moves if the loss or the gradient is no number.
        """
        loss, gap = 0.0, LogProbGap()
        self.optimizer.zero_grad()
        for batch in batches(samples, forward_rows(self.config, self.weights.model, samples)):
            loss += self._backward(batch.to(self.weights.model.cos.device), prompts, gap)
        loss = self.ranks.add_gradients(self.trained, loss)
        gap = total_gap(self.ranks.gather([gap]))
        if not any(parameter.grad is not None for parameter in self.trained):
            return UpdateReport(0.0, 0.0, False, gap)  # all kept groups' rewards are equal: nothing to learn
        limit = self.config.grad_clip if self.config.grad_clip is not None else math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, limit))
        for what, value in (("the loss", loss), ("the gradient's norm", norm)):
            if not math.isfinite(value):
                raise NotFinite(f"{what} is {value}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.weights.refresh()
        return UpdateReport(loss, norm, norm > limit, gap)

    def _backward(self, batch: Batch, prompts: int, gap: LogProbGap) -> float:
        """Add the batch's gradient and its part of the ``gap``; returns its part of the loss."""
        with torch.autocast(batch.prompts.device.type, torch.bfloat16, enabled=self.config.bfloat16):
            tokens, owner = token_log_probs(
                self.weights.model, batch, self.config.temperature, checkpointing=self.config.gradient_checkpointing
            )
        log_probs, advantages = sequence_log_probs(tokens, owner, len(batch.responses)), batch.advantages
        if batch.sampled is None:
            if self.config.importance_cap is not None:
                raise EdgekitError(
                    "importance_cap: the rollouts' log-probabilities are not known. The server does not tell them. "
                    "Leave importance_cap out."
                )
        else:
            by_token = tokens.detach() - batch.sampled[batch.mask.bool()]
            by_sequence = sequence_log_probs(by_token, owner, len(batch.responses))
            gap.add(by_token, by_sequence)
            if self.config.importance_cap is not None:
                advantages = advantages * importance_weights(by_sequence, self.config.importance_cap)
        loss = policy_gradient_loss(log_probs, advantages, prompts)
        torch.autograd.backward(loss)
        return loss.item()


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of ``step`` (from 1): linear warm-up, then the configured schedule."""
    left = 1.0 if config.schedule == "constant" else 1 - (step - 1) / config.steps
    return config.learning_rate * left * min(1.0, step / (config.warmup_steps + 1))


def check_finite(module: nn.Module) -> None:
    """Raise :class:`NotFinite` if one of the weights of ``module`` is infinite or NaN."""
    for name, parameter in module.named_parameters():
        if not bool(parameter.detach().isfinite().all()):
            raise NotFinite(f"a weight of {name} is not finite")
