"""``edgekit quantize``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.source import TaskOption, task_of
from edgekit.cli.terminal import JsonOption, out, policy_folder, print_json, progress

HELD_OUT = 300
"""Validation problems on which the fine-tuned policy is compared with the original."""


def quantize(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or a policy folder.")],
    target: Annotated[str, typer.Option(help="The target whose recipe gives the grid.")],
    destination: Annotated[Path, typer.Option("--out", help="The run directory to write, its policy on the grid.")],
    recipe: Annotated[str | None, typer.Option(help="A YAML file or a name; by default TARGET_int4.")] = None,
    task: TaskOption = None,
    prompts: Annotated[int, typer.Option(min=1, help="Training problems whose rollouts are learned.")] = 2000,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 300,
    rows: Annotated[int, typer.Option(min=1, help="Rollouts in a step; 8 for a vocabulary of 50,000.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="The highest one.")] = 5e-4,
    seed: Annotated[int, typer.Option(help="Of the order of the rollouts.")] = 0,
    json: JsonOption = False,
) -> None:
    """Fine-tune a policy onto a recipe's grid, so that its artifact is the policy itself: export the result.

    Example: edgekit quantize out/run --target onnx --recipe onnx_int4 --out out/run_int4
    """
    from edgekit.atomic_write import new_directory, write_file
    from edgekit.evaluate.answers import PolicyDecider
    from edgekit.policy.checkpoint import load_policy, save_policy
    from edgekit.quantize.qat import QatConfig, finetune
    from edgekit.recipes.lookup import find_recipe
    from edgekit.tasks import get_task
    from edgekit.verify.parity import compare, hop_json

    grid = find_recipe(recipe or f"{target}_int4", target)
    task = task_of(source, task)
    problems = get_task(task)
    policy = load_policy(policy_folder(source))
    config = QatConfig(steps=steps, rows=rows, learning_rate=learning_rate, seed=seed)
    texts = [problem.prompt for problem in problems.problems("train", prompts, seed)]
    with new_directory(destination, marker_file="quantize.json") as folder:
        with progress("fine-tuning", quiet=json) as update:
            tuned = finetune(
                policy, grid.quantize, texts, config, lambda done, of, loss: update(done, of, f"divergence {loss:.5f}")
            )
        save_policy(tuned, folder / "policy")
        write_file(folder / "quantize.json", grid.model_dump_json(indent=2) + "\n")
        if (policy_folder(source).parent / "config.yaml").is_file():  # says which task the policy is for
            shutil.copyfile(policy_folder(source).parent / "config.yaml", folder / "config.yaml")
    held_out = [problem.prompt for problem in problems.problems("validation", HELD_OUT, seed=0)]
    before, after = (PolicyDecider(p).decide(held_out) for p in (policy, tuned))
    length = max(len(ids) for ids in policy.routing.marker.token_ids)
    hop = compare(before, after, marker_length=length)
    if json:
        print_json({"policy": str(destination), "recipe": grid.name, "n": len(held_out), **hop_json(hop)})
    else:
        out.print(
            f"policy: {destination}, on the grid of {grid.name}. Of {len(held_out)} validation problems "
            f"{hop.decision_agreement:.1%} decided like {source}. "
            f"Next: edgekit export {destination} --target {target} --recipe {grid.name}",
            soft_wrap=True,
        )
