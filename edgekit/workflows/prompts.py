"""Which of a task's problems each workflow reads, in one place: what export rounds by, verify must round by too."""

from __future__ import annotations

from edgekit.bundle.load import Bundle
from edgekit.recipes.quant_recipe import QuantRecipe
from edgekit.tasks import TASKS, Problem, get_task

BIAS_PROMPTS = 300
"""Validation problems on which an artifact's call fraction is brought back to the reference's."""


def training_prompts(task: str, n: int) -> list[str]:
    """The first ``n`` of the task's training problems, always the same."""
    return [problem.prompt for problem in get_task(task).problems("train", n, seed=0)]


def calibration_prompts(recipe: QuantRecipe, task: str) -> list[str]:
    """The training problems that export and verify alike round by; empty if nothing in the recipe depends on them."""
    return training_prompts(task, recipe.calibration_prompts) if recipe.reads_rollouts else []


def rounded_on(bundle: Bundle, task: str) -> list[str]:
    """The prompts that ``bundle``'s export rounded by; ``task`` is read where the bundle names none of
    edgekit's own."""
    recipe = bundle.manifest.export_recipe().quantize
    label = bundle.manifest.provenance.get("task")
    return calibration_prompts(recipe, label if label in TASKS else task)


def bias_prompts(task: str) -> list[str]:
    """The validation problems that an artifact's marker bias is fitted on."""
    return [problem.prompt for problem in get_task(task).problems("validation", BIAS_PROMPTS, seed=0)]


def conformance_problems(task: str, n: int) -> list[Problem]:
    """The test problems whose decisions a bundle records."""
    return get_task(task).problems("test", n, seed=1)
