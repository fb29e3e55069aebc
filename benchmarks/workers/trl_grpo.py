"""TRL's GRPOTrainer, one optimizer step a turn. Usage: trl_grpo.py JOB (see training.py)."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from protocol import open_replies, say
from training import now, peak_mb, place, read_job, reward
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl import __version__ as version

MOST_STEPS = 1000


class Turns(TrainerCallback):
    """Waits for a line before each step and reports after it."""

    def __init__(self, replies: Any, prompt_tokens: int, device: str) -> None:
        self.replies, self.prompt_tokens, self.device = replies, prompt_tokens, device
        self.completion_tokens, self.rollout_s, self.begin = 0, 0.0, 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if not sys.stdin.readline():
            os._exit(0)
        self.begin = now(self.device)

    def grade(self, completion_ids: list[list[int]], **_: Any) -> list[float]:
        """The reward function: called when all responses are there."""
        self.rollout_s = now(self.device) - self.begin
        self.completion_tokens = sum(map(len, completion_ids))
        return [reward(ids) for ids in completion_ids]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        say(
            self.replies,
            {
                "seconds": now(self.device) - self.begin,
                "rollout_s": self.rollout_s,
                "completion_tokens": self.completion_tokens,
                "prompt_tokens": self.prompt_tokens,
                "peak_mb": peak_mb(self.device),
            },
        )


def main() -> None:
    """Build the trainer, then train a step a turn."""
    job = read_job()
    replies = open_replies()
    torch.set_num_threads(job.threads)
    config = json.loads(Path(job.model, "config.json").read_text())
    tokenizer = PreTrainedTokenizerFast(
        # AutoTokenizer of transformers 5 gets ids wrong where the folder was written by 4.57.
        tokenizer_file=f"{job.model}/tokenizer.json", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )  # fmt: skip
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == config["eos_token_id"]
    prompt_tokens = sum(len(tokenizer(prompt)["input_ids"]) for prompt in job.prompts[: job.prompts_per_step])
    turns = Turns(replies, prompt_tokens, job.device)
    rows = job.prompts_per_step * job.group_size
    arguments = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=job.device == "cpu",
        bf16=job.bfloat16,
        gradient_checkpointing=job.checkpointing,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=1,
        num_generations=job.group_size,
        max_completion_length=job.completion_tokens,
        generation_kwargs={"min_new_tokens": job.completion_tokens},
        temperature=1.0,
        learning_rate=1e-6,
        max_steps=MOST_STEPS,
        shuffle_dataset=False,
        model_init_kwargs={"dtype": "float32"},
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    trainer = GRPOTrainer(
        model=job.model,
        args=arguments,
        reward_funcs=turns.grade,
        train_dataset=Dataset.from_dict({"prompt": job.prompts}),
        processing_class=tokenizer,
        callbacks=[turns],
    )
    precision = "bf16 autocast" if job.bfloat16 else "fp32"
    remade = "activations recomputed (its default)" if job.checkpointing else "activations kept"
    say(replies, {"runtime": f"TRL {version}, torch {torch.__version__}, {precision}, {remade}, {place(job.device)}"})
    trainer.train()


if __name__ == "__main__":
    main()
