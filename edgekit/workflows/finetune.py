"""Fine-tuning a run's policy onto a recipe's grid, and how many decisions that kept."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from edgekit.atomic_write import new_directory, write_file
from edgekit.evaluate.answers import PolicyDecider
from edgekit.export.plan import fit_to_model
from edgekit.policy.checkpoint import load_policy, save_policy
from edgekit.policy.device import open_device
from edgekit.policy.folder import policy_folder
from edgekit.progress import Progress
from edgekit.quantize import qat
from edgekit.quantize.qat import QatConfig
from edgekit.recipes.fit import Fallback
from edgekit.recipes.lookup import find_recipe
from edgekit.tasks import get_task
from edgekit.train.config import read_mapping
from edgekit.train.task_file import FILE as TASK_FILE
from edgekit.verify.parity import Hop, compare
from edgekit.workflows.source import AnyPath, task_of

HELD_OUT = 300
"""Validation problems on which the fine-tuned policy is compared with the original."""


@dataclass(frozen=True)
class Finetuned:
    """The run written, the recipe whose grid its weights lie on, and its decisions against the original's.

    ``fallbacks``: weights that lie on another grid, the recipe's groups not dividing them.
    """

    run: Path
    recipe: str
    n: int
    decisions: Hop
    fallbacks: list[Fallback]


def finetune(
    run: AnyPath,
    target: str,
    out: AnyPath,
    *,
    recipe: str | Path | None = None,
    task: str | None = None,
    prompts: int = 2000,
    steps: int = 300,
    rows: int = 64,
    learning_rate: float = 5e-4,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> Finetuned:
    """Fine-tune the policy of ``run`` onto a recipe's grid, by default ``TARGET_int4``'s, and write the run ``out``.

    It learns its own rollouts of ``prompts`` training problems in ``steps`` steps of ``rows`` rollouts. Raises
    :class:`EdgekitError` for a run, recipe or task that cannot be had, a recipe that does not fit, or if ``out`` is
    taken.
    """
    source, destination = Path(run), Path(out)
    grid = find_recipe(recipe or f"{target}_int4", target)
    problems = get_task(task_of(source, task))
    folder = policy_folder(source)
    policy = load_policy(folder)
    policy.model.to(_device_of(folder.parent))
    grid, fallbacks = fit_to_model(policy.model, grid)
    config = QatConfig(steps=steps, rows=rows, learning_rate=learning_rate, seed=seed)
    texts = [problem.prompt for problem in problems.problems("train", prompts, seed)]
    with new_directory(destination, marker_file="quantize.json") as new:
        tuned, floats = qat.finetune(policy, grid.quantize, texts, config, on_progress, recipe_name=grid.name)
        save_policy(tuned, new / "policy", floats)
        write_file(new / "quantize.json", grid.model_dump_json(indent=2) + "\n")
        if (folder.parent / "config.yaml").is_file():  # says which task the policy is for
            shutil.copyfile(folder.parent / "config.yaml", new / "config.yaml")
            if (folder.parent / TASK_FILE).is_file():
                shutil.copyfile(folder.parent / TASK_FILE, new / TASK_FILE)
    held_out = [problem.prompt for problem in problems.problems("validation", HELD_OUT, seed=0)]
    before, after = (PolicyDecider(p).decide(held_out) for p in (policy, tuned))
    length = max(len(ids) for ids in policy.routing.marker.token_ids)
    hop = compare(before, after, marker_length=length)
    return Finetuned(destination, grid.name, len(held_out), hop, fallbacks)


def _device_of(run: Path) -> torch.device:
    """Where ``run`` was trained, by its config; where it has none, a GPU if there is one."""
    config = run / "config.yaml"
    named = read_mapping(config, "training config").get("device") if config.is_file() else None
    return open_device("cpu" if named == "cpu" else "auto")
