"""edgekit's rollout and update, one step a turn. Usage: edgekit_training.py JOB (see training.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from protocol import open_replies, say
from training import Job, now, peak_mb, place, read_job, reward

from edgekit.policy.adopt import adopt
from edgekit.policy.checkpoint import Policy
from edgekit.recipes.lookup import find_recipe
from edgekit.rollout.sampler import Sampler
from edgekit.routing.spec import Marker
from edgekit.train.advantage import group_advantages
from edgekit.train.batches import samples_of
from edgekit.train.config import TrainConfig
from edgekit.train.update import PolicyUpdate


def endless_policy(job: Job) -> Policy:
    """The model as a policy whose responses are all cut off at their full length: nothing ends them."""
    policy = adopt(Path(job.model), max_new_tokens=job.completion_tokens)
    never = (policy.model.config.vocab_size,)  # a token that does not exist
    routing = policy.routing.model_copy(
        update={
            "stop_token_ids": never,
            "marker": Marker(text="\x00", token_ids=(never,)),
            "answer": policy.routing.answer.model_copy(update={"close": "\x00"}),
        }
    )
    policy.routing = routing
    return policy


def main() -> None:
    """Load, then one step a turn."""
    job = read_job()
    replies = open_replies()
    torch.set_num_threads(job.threads)
    policy = endless_policy(job)
    policy.model.to(job.device)
    config = TrainConfig(
        prompts_per_step=job.prompts_per_step,
        group_size=job.group_size,
        learning_rate=1e-6,
        bfloat16=job.bfloat16,
        # On a CPU a prompt's responses at a time: as fast, and activations of one group.
        rows_per_forward=job.group_size if job.device == "cpu" else 128,
        gradient_checkpointing=job.checkpointing,
        device="cuda" if job.device == "cuda" else "cpu",
    )
    recipe = find_recipe(job.quantize, None).quantize if job.quantize else None
    update = PolicyUpdate(policy.model, config, recipe=recipe)
    sampler = Sampler(policy, 1.0, bfloat16=job.bfloat16)
    prompts = [tuple(policy.tokenizer.encode(prompt, add_special_tokens=False).ids) for prompt in job.prompts]
    precision = "bf16 autocast" if job.bfloat16 else "fp32"
    remade = "activations recomputed" if job.checkpointing else "activations kept"
    say(replies, {"runtime": f"edgekit, torch {torch.__version__}, {precision}, {remade}, {place(job.device)}"})
    for step, _ in enumerate(sys.stdin):
        begin = now(job.device)
        batch = [prompts[(step * job.prompts_per_step + i) % len(prompts)] for i in range(job.prompts_per_step)]
        groups = sampler.sample(batch, job.group_size, seed=step)
        middle = now(job.device)
        rewards = torch.tensor([[reward(r.token_ids) for r in group.responses] for group in groups])
        advantages = group_advantages(rewards).tolist()
        samples = [
            sample
            for number, (group, row) in enumerate(zip(groups, advantages, strict=True))
            for sample in samples_of(number, group, row)
        ]
        update.apply(samples, len(groups), 1e-6)
        say(
            replies,
            {
                "seconds": now(job.device) - begin,
                "rollout_s": middle - begin,
                "completion_tokens": sum(len(sample.response_ids) for sample in samples),
                "prompt_tokens": sum(map(len, batch)),
                "peak_mb": peak_mb(job.device),
            },
        )


if __name__ == "__main__":
    main()
