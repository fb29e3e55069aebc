"""``edgekit finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.showing import progress
from edgekit.cli.terminal import JsonOption, TaskOption, out, print_fallbacks, print_json


def finetune(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or a policy folder.")],
    target: Annotated[str, typer.Option(help="The target whose recipe gives the grid.")],
    destination: Annotated[Path, typer.Option("--out", help="The run directory to write, its policy on the grid.")],
    recipe: Annotated[
        str | None, typer.Option(help="A YAML file or a name; by default TARGET_int4. Export by the same.")
    ] = None,
    task: TaskOption = None,
    prompts: Annotated[int, typer.Option(min=1, help="Training problems whose rollouts are learned.")] = 2000,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 300,
    rows: Annotated[int, typer.Option(min=1, help="Rollouts in a step; 8 for a vocabulary of 50,000.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="The highest one.")] = 5e-4,
    seed: Annotated[int, typer.Option(help="Of the order of the rollouts.")] = 0,
    json: JsonOption = False,
) -> None:
    """Fine-tune a policy onto a recipe's grid, so that its artifact is the policy itself: export the result.

    Example: edgekit finetune out/run --target onnx --recipe onnx_int4 --out out/run_int4
    """
    from edgekit.verify.parity import hop_json
    from edgekit.workflows.finetune import finetune as run_finetuning

    with progress("fine-tuning") as update:
        tuned = run_finetuning(
            source,
            target,
            destination,
            recipe=recipe,
            task=task,
            prompts=prompts,
            steps=steps,
            rows=rows,
            learning_rate=learning_rate,
            seed=seed,
            on_progress=update,
        )
    if json:
        data = {"policy": str(tuned.run), "recipe": tuned.recipe, "n": tuned.n, **hop_json(tuned.decisions)}
        print_json({**data, "fallbacks": [fallback.to_json() for fallback in tuned.fallbacks]})
    else:
        print_fallbacks(tuned.recipe, tuned.fallbacks)
        out.print(
            f"policy: {tuned.run}, on the grid of {tuned.recipe}. Of {tuned.n} validation problems "
            f"{tuned.decisions.decision_agreement:.1%} decided like {source}. "
            f"Next: edgekit export {tuned.run} --target {target} --recipe {tuned.recipe}",
            soft_wrap=True,
        )
