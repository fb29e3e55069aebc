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
MAX_NEW_TOKENS = 12
# Without the chat format a prompt is half as long, and so is the training.
SMOLLM2_TEMPLATE = "{prompt} ="


def is_pretrained(base: str) -> bool:
    """Whether ``base`` is a language model that does not know the marker yet."""
    folder = Path(base)
    return base == "smollm2" or ((folder / "config.json").is_file() and not (folder / "routing.json").is_file())


def base_folder(base: str, task: str, seed: int, on_progress: Progress | None = None) -> Path:
    """The policy folder that ``base`` names. A pretrained model is warm-started and cached on first use.

    "smollm2" is downloaded before. ``on_progress`` is called with (steps done, steps in all, a note) while there
    is something to make. Raises :class:`EdgekitError` if the weights cannot be had.
    """
    if base == "builtin":
        return Path(edgekit.policy.__file__).parent / "base"
    if not is_pretrained(base):
        return Path(base)
    if on_progress is not None:
        on_progress(0, 1, "reading the model")
    source, template = (smollm2_folder(), SMOLLM2_TEMPLATE) if base == "smollm2" else (Path(base), None)
    identity = GGUF_SHA256 if base == "smollm2" else _fingerprint(source)
    config = TeachConfig()
    recipe = [RECIPE_VERSION, identity, template, MAX_NEW_TOKENS, task, seed, asdict(config)]
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    folder = cache_folder() / f"{source.name if template is None else base}-{task}-{key}"
    if not (folder / "routing.json").is_file():
        policy = adopt(source, max_new_tokens=MAX_NEW_TOKENS, prompt_template=template)
        teach_marker(policy, get_task(task), seed=seed, config=config, on_progress=on_progress)
        with new_directory(folder, marker_file="routing.json") as new:
            save_policy(policy, new)
    return folder


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
