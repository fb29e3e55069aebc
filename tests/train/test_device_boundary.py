"""What a run computes stays where its config says: nothing made on the host meets what lies on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from boundary import Boundary, MixedDevicesError
from letters import letters_policy

from edgekit.policy.checkpoint import Policy
from edgekit.quantize.qat import QatConfig, finetune
from edgekit.quantize.quantized import quantize_policy
from edgekit.recipes.quant_recipe import QuantRecipe, QuantRule
from edgekit.rollout.sampler import Sampler
from edgekit.train.batches import samples_of
from edgekit.train.config import TrainConfig
from edgekit.train.update import PolicyUpdate
from edgekit.warm_start.supervised import Example, fit

PROMPTS = [(0, 1, 0), (1,), (0, 0)]
TEXTS = ["ab", "b", "aab", "ba"]


def recipe(**settings: str) -> QuantRecipe:
    return QuantRecipe(rules=[QuantRule(match="*", bits=4, group_size=8)], activations="int8", **settings)


def learn(policy: Policy, config: TrainConfig, on: QuantRecipe | None = None) -> None:
    update = PolicyUpdate(policy.model, config, recipe=on)
    groups = Sampler(policy, 1.0, bfloat16=config.bfloat16).sample(PROMPTS, 4, seed=0)
    samples = [s for number, group in enumerate(groups) for s in samples_of(number, group, (1.0, -1.0, 0.5, -0.5))]
    update.apply(samples, len(groups), 1e-3)


def warm_start(policy: Policy) -> None:
    batches = [[Example.of((0, 1), (1, 0, 6)), Example.of((1,), (5,))]] * 2
    assert len(list(fit(policy.model, batches, 2, 1e-3))) == 2


WORK: dict[str, Callable[[Policy], object]] = {
    "rollout and update": lambda policy: learn(policy, TrainConfig()),
    "in bfloat16, recomputing": lambda policy: learn(policy, TrainConfig(bfloat16=True, gradient_checkpointing=True)),
    "on the grid": lambda policy: learn(policy, TrainConfig(), recipe()),
    "warm start": warm_start,
    "quantization by gptq": lambda policy: quantize_policy(policy, recipe(rounding="gptq"), TEXTS),
    "fine-tuning": lambda policy: finetune(policy, recipe(), TEXTS, QatConfig(steps=2, rows=2)),
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_nothing_of_it_stays_on_the_host(work: Callable[[Policy], object], tmp_path: Path) -> None:
    policy = letters_policy(tmp_path, rows=16)
    with Boundary():
        work(policy)


def test_the_boundary_is_one() -> None:
    there = torch.ones(3)
    device = torch.device("cpu")
    with Boundary():
        for meet in (lambda here: there + here, lambda here: there[here.long()], lambda here: torch.cat([there, here])):
            with pytest.raises(MixedDevicesError):
                meet(torch.zeros(3))
            with pytest.raises(MixedDevicesError):
                meet(torch.zeros(3) + 1)
            with pytest.raises(MixedDevicesError):
                meet(there.cpu().long())
            meet(torch.zeros(3).to(device))
            meet(torch.zeros(3, device=device))
            meet(torch.zeros(3).to(device).cpu().to(device))
