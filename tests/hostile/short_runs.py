"""Runs of two steps that learn something, for what disturbs them, and what they came to."""

from __future__ import annotations

from pathlib import Path

import torch

from edgekit.policy.checkpoint import load_policy, state_tensors

SETTINGS = (
    "steps=2", "prompts_per_step=4", "group_size=4", "train_pool=8", "checkpoint_every=1", "eval_every=2", "eval_n=2",
)  # fmt: skip


def begin(run: Path) -> list[str]:
    """The command that begins a run."""
    return ["train", "quick", "--out", str(run), *(part for each in SETTINGS for part in ("--set", each))]


def go_on(run: Path) -> list[str]:
    """The command that goes on with it."""
    return ["train", "--out", str(run), "--resume"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of the policy in ``folder``, by name."""
    return state_tensors(load_policy(folder).model)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two policies have the very same weights."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
