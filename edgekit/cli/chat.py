"""``edgekit chat``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.showing import stages
from edgekit.cli.terminal import CloudOption, TaskOption, err, refuse_idle, standard_input

NEW = "/new"


def chat(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    task: TaskOption = None,
    cloud: CloudOption = "own",
) -> None:
    """Talk with a policy, its cloud behind it, in the terminal; the model is loaded once.

    What was said before goes along where the policy's chat template has several turns. /new begins anew, Ctrl-D ends.
    What is handed off leaves as you typed it: edgekit serve redacts, limits and logs.

    Example: edgekit chat out/demo/onnx --cloud openai:gpt-4o-mini@https://api.openai.com/v1
    """
    from edgekit.cli.streaming import Screen
    from edgekit.hybrid.conversation import Conversation
    from edgekit.workflows.answer import open_answering
    from edgekit.workflows.prompt_list import piped_prompts

    standard_input()  # or none, which is said before anything is loaded
    if cloud == "none" or cloud.startswith("openai:"):
        refuse_idle(context, "Only the oracle knows a task", "task")
    with stages("opening"):
        conversation = Conversation(open_answering(source, task=task, cloud=cloud).session)
    behind = conversation.session.cloud
    err.print(f"cloud: {'none' if behind is None else f'{behind.model} at {behind.server}'}", soft_wrap=True)
    if not conversation.remembers:
        err.print(
            "This policy has no chat template of several turns: it is asked each question by itself.", soft_wrap=True
        )
    for line in _typed() if sys.stdin.isatty() else piped_prompts(standard_input()):
        if line == NEW:
            conversation.begin_anew()
        elif line:
            screen = Screen()
            screen.finish(conversation.say(line, screen))


def _typed() -> Iterator[str]:
    """What the user types, up to the end of input."""
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            return
        except UnicodeDecodeError:
            err.print(f"That was not {sys.stdin.encoding}: type it again.")
