"""What only a GPU can show: captured steps write what called ones do, again and again, from the weights as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from letters import letters_policy

from edgekit.policy.batch_decode import IN_CHUNKS
from edgekit.policy.reference import decode_batch
from edgekit.rollout.sampler import Sampler
from edgekit.train.batches import collate, samples_of
from edgekit.train.loss import response_log_probs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
PROMPTS = [(0, 1, 0, 0), (1,), (0, 0)]


def test_captured_steps_sample_what_the_cpu_samples_before_and_after_the_weights_move(tmp_path: Path) -> None:
    here, there = (letters_policy(tmp_path, rows=12, context=64) for _ in range(2))
    for policy in (here, there):
        policy.routing = policy.routing.model_copy(update={"max_new_tokens": 40})
    there.model.cuda()
    mine, theirs = Sampler(here, 1.0), Sampler(there, 1.0)
    assert theirs.pace == IN_CHUNKS
    for seed in range(4):
        assert theirs.sample(PROMPTS, 16, seed=seed) == mine.sample(PROMPTS, 16, seed=seed)
        with torch.no_grad():
            for ours, other in zip(here.model.parameters(), there.model.parameters(), strict=True):
                ours.mul_(1.01)
                other.copy_(ours)


@pytest.mark.parametrize("bias", [None, 3.0, float("-inf")])
def test_captured_steps_decide_as_the_cpu_does(bias: float | None, tmp_path: Path) -> None:
    here, there = (letters_policy(tmp_path, rows=12, context=64) for _ in range(2))
    there.model.cuda()
    expected = decode_batch(here, PROMPTS * 8, marker_bias=bias, batch_size=8)
    found = decode_batch(there, PROMPTS * 8, marker_bias=bias, batch_size=8)
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert [one.marker_margin for one in found] == pytest.approx([one.marker_margin for one in expected], abs=1e-3)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_what_was_sampled_has_the_probability_that_the_update_sees(bfloat16: bool, tmp_path: Path) -> None:
    policy = letters_policy(tmp_path, rows=12, context=64)
    policy.model.cuda()
    sampler = Sampler(policy, 1.0, bfloat16=bfloat16)
    for seed in range(3):
        groups = sampler.sample(PROMPTS, 8, seed=seed)
        samples = [s for number, group in enumerate(groups) for s in samples_of(number, group, [1.0] * 8)]
        with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
            found = response_log_probs(policy.model, collate(samples).to(torch.device("cuda")), 1.0)
        assert all(sample.log_probs is not None for sample in samples)
        expected = torch.tensor([sum(sample.log_probs or ()) for sample in samples])
        torch.testing.assert_close(found.detach().cpu().float(), expected, rtol=0.0, atol=0.3 if bfloat16 else 1e-3)
        torch.autograd.backward(found.sum())
