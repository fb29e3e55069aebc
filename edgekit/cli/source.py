"""A SOURCE on the command line, run or bundle, made into something that decides prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.terminal import is_bundle, policy_folder

if TYPE_CHECKING:
    from edgekit.evaluate.answers import Decider, StepDecider
    from edgekit.recipes.quant_recipe import QuantRecipe

TaskOption = Annotated[
    str | None,
    typer.Option(help="NAME, FILE.py, FILE.jsonl[#RULE] or hub:DATASET; by default the one SOURCE was trained on."),
]
DEFAULT_TASK = "countdown"


def task_of(source: Path, given: str | None) -> str:
    """``given``, or the task that a bundle, a run, or the run around a policy folder names, or the default.

    A path in ``given`` is made absolute, so that what is written with it is understood from every directory.
    """
    if given is not None:
        from edgekit.tasks import resolve_task

        return resolve_task(given)
    if (source / "manifest.json").is_file():
        from edgekit.bundle.manifest import read_manifest

        return read_manifest(source).provenance.get("task") or DEFAULT_TASK
    configs = [folder / "config.yaml" for folder in (source, source.parent) if (folder / "config.yaml").is_file()]
    if not configs:
        return DEFAULT_TASK
    from edgekit.train.config import load_config

    return load_config(str(configs[0])).task


def calibration_prompts(recipe: QuantRecipe, task: str) -> list[str]:
    """The training problems that export and verify alike round by; empty if the recipe rounds to nearest."""
    return [] if recipe.rounding == "nearest" else training_prompts(task, recipe.calibration_prompts)


def training_prompts(task: str, n: int) -> list[str]:
    """The first ``n`` of the task's training problems, always the same."""
    from edgekit.tasks import get_task

    return [problem.prompt for problem in get_task(task).problems("train", n, seed=0)]


def open_source(source: Path) -> Decider:
    """The run's torch policy, or the bundle's artifact in its simulator."""
    if is_bundle(source):
        return open_bundle_decider(source)
    from edgekit.evaluate.answers import PolicyDecider
    from edgekit.policy.checkpoint import load_policy

    return PolicyDecider(load_policy(policy_folder(source)))


def open_bundle_decider(source: Path) -> StepDecider:
    """The bundle's artifact in its simulator."""
    from edgekit.bundle.load import open_bundle
    from edgekit.evaluate.answers import StepDecider
    from edgekit.simulate import open_simulator

    bundle = open_bundle(source)
    facts = bundle.manifest.model
    model = open_simulator(bundle.manifest.target, bundle.artifact, facts.context_length, facts.prefill_chunk)
    return StepDecider(model, bundle.routing, bundle.vocabulary, bundle.encode)
