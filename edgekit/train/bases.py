"""What training starts from: the built-in base, a policy folder, or a pretrained model warm-started here, once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import edgekit.policy
from edgekit.atomic_write import new_directory
from edgekit.policy.adopt import adopt
from edgekit.policy.checkpoint import save_policy
from edgekit.policy.smollm2 import GGUF_SHA256, cache_folder, smollm2_folder
from edgekit.tasks import get_task
from edgekit.train.teach_marker import TeachConfig, teach_marker

Progress = Callable[[int, int, str], None]

NAMED_BASES = ("builtin", "smollm2")
RECIPE_VERSION = 1
"""Raise it when the warm start's code changes what it makes, so that no older cached one is taken."""
# Without the chat format a prompt is half as long, and so is the training.
SMOLLM2_TEMPLATE, SMOLLM2_NEW_TOKENS = "{prompt} =", 12


def base_folder(base: str, task: str, seed: int, on_progress: Progress | None = None) -> Path:
    """The policy folder that ``base`` names; "smollm2" is downloaded, warm-started and cached on first use.

    ``on_progress`` is called with (steps done, steps in all, a note) while there is something to make.
    Raises :class:`EdgekitError` if the weights cannot be had.
    """
    if base == "builtin":
        return Path(edgekit.policy.__file__).parent / "base"
    if base != "smollm2":
        return Path(base)
    config = TeachConfig()
    recipe = [RECIPE_VERSION, GGUF_SHA256, SMOLLM2_TEMPLATE, SMOLLM2_NEW_TOKENS, task, seed, asdict(config)]
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    folder = cache_folder() / f"smollm2-{task}-{key}"
    if not (folder / "routing.json").is_file():
        if on_progress is not None:
            on_progress(0, 1, "fetching SmolLM2")
        policy = adopt(smollm2_folder(), max_new_tokens=SMOLLM2_NEW_TOKENS, prompt_template=SMOLLM2_TEMPLATE)
        teach_marker(policy, get_task(task), seed=seed, config=config, on_progress=on_progress)
        with new_directory(folder, marker_file="routing.json") as new:
            save_policy(policy, new)
    return folder
