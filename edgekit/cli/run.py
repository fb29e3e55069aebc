"""``edgekit run``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.showing import stages
from edgekit.cli.terminal import CloudOption, JsonOption, TaskOption, print_json, standard_input


def run(
    source: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    prompt: Annotated[
        str, typer.Argument(help='For Countdown: "3 5 7 -> 22". FILE.jsonl, FILE.txt or - (stdin): one prompt a line.')
    ],
    task: TaskOption = None,
    cloud: CloudOption = "own",
    json: JsonOption = False,
) -> None:
    """Answer prompts as they are written, showing which side answered and why. The model is loaded once.

    Any prompt works; a task only grades what it knows. Conversations: edgekit chat. What is handed off leaves as you
    typed it: edgekit serve redacts, limits and logs.

    Example: edgekit run out/demo/onnx "3 5 7 -> 22"
    """
    from edgekit.cli.streaming import Screen, printable
    from edgekit.workflows.answer import open_answering
    from edgekit.workflows.prompt_list import prompts_in

    several = prompts_in(prompt, standard_input)
    with stages("opening"):
        opened = open_answering(source, task=task, cloud=cloud)
    answers = []
    for number, each in enumerate(several or [prompt], 1):
        screen = Screen()
        if several and not json:
            print(f"[{number} of {len(several)}] {printable(each)}")
        answers.append(opened.ask(each, None if json else screen))
        if not json:
            screen.finish(answers[-1])
    if json and several is None:
        print_json(asdict(answers[0]))
    elif json:
        listed = [{"prompt": each, **asdict(answer)} for each, answer in zip(several or (), answers, strict=True)]
        print_json({"answers": listed})
