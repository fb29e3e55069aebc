"""``edgekit export``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.showing import stages
from edgekit.cli.terminal import JsonOption, TaskOption, err, out, print_fallbacks, print_json, refuse_idle

if TYPE_CHECKING:
    from edgekit.recipes.fit import Fallback
    from edgekit.workflows.search import Found


def export(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or a policy folder.")],
    target: Annotated[str, typer.Option(help="onnx, executorch or coreml.")],
    recipe: Annotated[
        str | None, typer.Option(help="A YAML file or a name, as onnx_int8; by default int4_decisions of the target.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option("--out", help="The bundle to write; by default out/RECIPE.")] = None,
    task: TaskOption = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate", help="Fit the artifact's own marker bias, so that it calls as often as RUN."
        ),
    ] = True,
    cases: Annotated[int, typer.Option(min=1, help="Recorded prompts and decisions in the bundle.")] = 64,
    search: Annotated[bool, typer.Option("--search", help="Try recipes and export the best within budget.")] = False,
    max_mb: Annotated[float | None, typer.Option(help="With --search: the largest artifact.")] = None,
    min_tokens_per_s: Annotated[float | None, typer.Option(help="With --search: the slowest, on this host.")] = None,
    n: Annotated[int, typer.Option(min=1, help="With --search: held-out prompts that compare the recipes.")] = 300,
    bundle_version: Annotated[str, typer.Option(help="The bundle's own version, in its manifest and README.")] = "1",
    licence: Annotated[
        str | None, typer.Option(help="The base model's licence, where its folder does not say it.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Quantize a run's policy, lower it to a phone's format, and bundle it.

    --search tries recipes around the given one: nearest, GPTQ, 8-bit head, mixed by sensitivity, 8 bits; what it
    found is kept in OUT.frontier.json and .png. SOURCE_DATE_EPOCH, where it is set, dates the bundle; without it equal
    runs give equal bundles.

    Example: edgekit export out/demo/run --target coreml --out out/demo/coreml
    """
    from edgekit.bundle.app import unread_tokenizer
    from edgekit.cli.search_tables import frontier_table, sensitivity_table
    from edgekit.workflows.export import budget_note, recipe_for
    from edgekit.workflows.export import export as run_export
    from edgekit.workflows.search import Budget, frontier_json
    from edgekit.workflows.search import search as run_search

    if not search:
        refuse_idle(context, "Only --search reads it", "max_mb", "min_tokens_per_s", "n")
    found: Found | None = None
    fallbacks: list[Fallback] = []
    with stages("exporting") as say:
        if search:
            budget = Budget(max_mb, min_tokens_per_s, n)
            found = run_search(source, target, budget, recipe=recipe, out=bundle, task=task, on_stage=say)
        chosen = found.chosen if found else recipe_for(target, recipe)
        destination = run_export(
            source,
            target,
            recipe=chosen,
            out=bundle,
            task=task,
            calibrate=calibrate,
            cases=cases,
            version=bundle_version,
            licence=licence,
            date=os.environ.get("SOURCE_DATE_EPOCH"),
            on_stage=say,
            on_fallbacks=fallbacks.extend,
        )
    note = budget_note(destination)
    if note is not None:
        err.print(f"warning: {note}", soft_wrap=True)
    if json:
        more: dict[str, Any] = {"fallbacks": [fallback.to_json() for fallback in fallbacks]}
        more |= {"frontier": frontier_json(found.points)} if found else {}
        more["unread_tokenizer"] = unread_tokenizer(destination)
        print_json({"bundle": str(destination), "target": target, "recipe": chosen.name, **more})
        return
    print_fallbacks(chosen.name, fallbacks)
    if found:
        out.print(frontier_table(found), sensitivity_table(found), sep="\n")
    _show(destination, chosen.name, source)


def _show(bundle: Path, recipe: str, source: Path) -> None:
    from edgekit.bundle.app import unread_tokenizer

    lacking = unread_tokenizer(bundle)
    if lacking is not None:
        out.print(f"phone apps cannot read its tokenizer: {lacking}", soft_wrap=True)
    out.print(f"bundle: {bundle} ({recipe}). Next: edgekit verify {bundle} --reference {source}", soft_wrap=True)
