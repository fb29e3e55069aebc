"""What training starts from: the built-in base, a policy folder, or a pretrained model warm-started here, once."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

import edgekit.policy
from edgekit.atomic_write import new_directory
from edgekit.policy.adopt import adopt
from edgekit.policy.checkpoint import save_policy
from edgekit.policy.hub import hub_folder, is_hub_name
from edgekit.policy.smollm2 import GGUF_SHA256, cache_folder, smollm2_folder
from edgekit.policy.tokens import ANSWER_CLOSE, ANSWER_OPEN, MARKER
from edgekit.progress import Progress
from edgekit.tasks import get_task, task_content
from edgekit.warm_start.answers import TeachConfig, teach_marker
from edgekit.warm_start.attempts import AttemptsConfig, teach_from_attempts

if TYPE_CHECKING:
    from edgekit.train.config import TrainConfig

WarmStart = Literal["answers", "attempts"]

NAMED_BASES = ("builtin", "smollm2")
RECIPE_VERSION = 2
"""Raise it when the warm start's code changes what it makes, so that no older cached one is taken."""
MAX_NEW_TOKENS = 12
# Without the chat format a prompt is half as long, and so is the training.
SMOLLM2_TEMPLATE = "{prompt} ="
_OR_CALL = f"If you cannot solve it, write {MARKER} on a line of its own instead of an answer."
INSTRUCTIONS: dict[WarmStart, str] = {
    "answers": f"Solve the task. Give only the final answer between {ANSWER_OPEN} and {ANSWER_CLOSE}. {_OR_CALL}",
    "attempts": "Solve the task. Reason step by step between <think> and </think>, then give only the final answer "
    f"between {ANSWER_OPEN} and {ANSWER_CLOSE}. {_OR_CALL}",
}
"""The system prompt of a pretrained model, by how it is warm-started."""


def is_pretrained(base: str) -> bool:
    """Whether ``base`` may be a language model that does not know the marker yet."""
    folder = Path(base)
    lacks_routing = (folder / "config.json").is_file() and not (folder / "routing.json").is_file()
    return base == "smollm2" or is_hub_name(base) or lacks_routing


def absolute_base(base: str) -> str:
    """``base`` in a form that does not depend on the working directory, from which a run may be resumed."""
    return base if base in NAMED_BASES or is_hub_name(base) else str(Path(base).resolve())


def run_base(config: TrainConfig, on_progress: Progress | None = None) -> Path:
    """The policy folder that ``config`` starts from, made if need be."""
    return base_folder(
        config.base,
        config.task,
        config.seed,
        on_progress,
        warm_start=config.warm_start,
        instruction=config.instruction,
        max_new_tokens=config.max_new_tokens,
    )


def base_folder(
    base: str,
    task: str,
    seed: int,
    on_progress: Progress | None = None,
    *,
    warm_start: WarmStart = "answers",
    instruction: str | None = None,
    max_new_tokens: int | None = None,
) -> Path:
    """The policy folder that ``base`` names. A pretrained model is warm-started and cached on first use.

    "smollm2" and models of the hub are downloaded before. ``instruction`` None means edgekit's. ``on_progress`` is
    called with (steps done, steps in all, a note) while there is something to make. Raises :class:`EdgekitError` if
    the weights cannot be had.
    """
    if base == "builtin":
        return Path(edgekit.policy.__file__).parent / "base"
    if not is_pretrained(base):
        return Path(base)
    if on_progress is not None:
        on_progress(0, 1, "reading the model")
    source, identity, template = _source(base)
    if (source / "routing.json").is_file():  # a policy on the hub
        return source
    asked = INSTRUCTIONS[warm_start] if instruction is None else instruction or None
    limit = max_new_tokens or MAX_NEW_TOKENS
    answers, attempts = TeachConfig(), AttemptsConfig()
    teaching = answers if warm_start == "answers" else attempts
    content = task_content(task)
    recipe = [RECIPE_VERSION, identity, template, asked, limit, content, seed, warm_start, asdict(teaching)]
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    name = base.rpartition("/")[2] if is_hub_name(base) else base if template is not None else source.name
    folder = cache_folder() / f"{name}-{re.sub(r'[^A-Za-z0-9_-]+', '-', get_task(task).name)}-{key}"
    if not (folder / "routing.json").is_file():
        policy = adopt(source, max_new_tokens=limit, prompt_template=template, instruction=asked)
        policy.model.to("cuda" if torch.cuda.is_available() else "cpu")
        if warm_start == "answers":
            teach_marker(policy, get_task(task), seed=seed, config=answers, on_progress=on_progress)
        else:
            teach_from_attempts(policy, get_task(task), seed=seed, config=attempts, on_progress=on_progress)
        with new_directory(folder, marker_file="routing.json", private=True) as new:
            save_policy(policy, new)
    return folder


def _source(base: str) -> tuple[Path, str, str | None]:
    """The model's folder, what tells it from others, and its prompt template if not its chat format."""
    if base == "smollm2":
        return smollm2_folder(), GGUF_SHA256, SMOLLM2_TEMPLATE
    if is_hub_name(base):
        folder = hub_folder(base)
        return folder, f"{base}@{folder.name}", None
    return Path(base), _fingerprint(Path(base)), None


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.jinja"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
