"""``edgekit run``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.showing import stages
from edgekit.cli.terminal import JsonOption, TaskOption, err, out, print_json

REASONS = {
    "answer": "the policy answered itself",
    "marker": "the policy called for the cloud",
    "no_answer": "the policy ended without an answer",
    "too_long": "the prompt is too long for the device",
    "device_failed": "the device's model failed",
    "offline": "a hand-off was due, but no cloud answered",
    "budget": "a hand-off was due, but the budget is spent",
    "consent": "a hand-off was due, but the prompt was kept here",
}


def run(
    source: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    prompt: Annotated[str, typer.Argument(help='For Countdown: "3 5 7 -> 22".')],
    task: TaskOption = None,
    cloud: Annotated[str, typer.Option(help="oracle[:accuracy], openai:MODEL@BASE_URL or none.")] = "oracle",
    json: JsonOption = False,
) -> None:
    """Answer one prompt, showing which side answered and why.

    Example: edgekit run out/demo/onnx "3 5 7 -> 22"
    """
    from edgekit.workflows.answer import answer

    with stages("answering"):
        result = answer(source, prompt, task=task, cloud=cloud)
    if json:
        print_json(asdict(result))
        return
    if result.notice:
        err.print(f"cloud: {result.notice}")
    out.print(result.text.rstrip(), markup=False)
    cloud_time = "" if result.cloud_ms is None else f", cloud {result.cloud_ms:.0f} ms"
    grade = {True: "right", False: "wrong", None: "not graded"}[result.correct]
    out.print(
        f"-> {result.answer} ({grade}), by {result.route}: {REASONS[result.reason]}; marker margin "
        f"{result.marker_margin:+.2f}, {result.generated_tokens} tokens, local {result.local_ms:.0f} ms{cloud_time}",
        markup=False,
    )
