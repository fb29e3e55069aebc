"""``edgekit serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edgekit.cli.showing import stages
from edgekit.cli.terminal import CloudOption, TaskOption, err


def serve(
    source: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    cloud: CloudOption = "own",
    host: Annotated[str, typer.Option(help="Where to listen; beyond loopback a key is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8321,
    budget: Annotated[
        list[str] | None, typer.Option(help="CALLS/PERIOD or COSTusd/PERIOD: 20/hour, 100/day, 2.50usd/day, 9/total.")
    ] = None,
    consent: Annotated[
        Literal["always", "never", "ask"], typer.Option(help="To prompts leaving; ask: on the page, each time.")
    ] = "always",
    redact: Annotated[bool, typer.Option("--redact/--no-redact", help="Replace what must not leave.")] = True,
    names: Annotated[Path | None, typer.Option(help="Names that must not leave, one a line.")] = None,
    region: Annotated[str | None, typer.Option(help="Whose national phone numbers are known: DE, US ...")] = None,
    prices: Annotated[Path | None, typer.Option(help="YAML, MODEL: {prompt: USD, completion: USD} a million.")] = None,
    on_failure: Annotated[
        Literal["local", "say"], typer.Option(help="Of the cloud: the device's own attempt, or only why.")
    ] = "local",
    state: Annotated[Path | None, typer.Option(help="Where budget and log are kept; default ~/.local/state.")] = None,
    queue: Annotated[int, typer.Option(min=1, max=4096, help="Requests under way or waiting at most.")] = 64,
    task: TaskOption = None,
) -> None:
    """Serve a policy with the cloud behind it: OpenAI's chat API, and a page to try it at /.

    Beyond loopback the key in EDGEKIT_SERVE_API_KEY is asked for; the cloud's own is EDGEKIT_CLOUD_API_KEY.

    Example: edgekit serve out/demo/onnx --cloud openai:gpt-4o-mini@https://api.openai.com/v1 --budget 20/hour
    """
    from edgekit.workflows.serve import HandOffOptions, open_server, state_folder

    options = HandOffOptions(
        tuple(budget or ()), consent, redact, names, region, prices, on_failure, state or state_folder()
    )
    with stages("opening"):
        server = open_server(source, host=host, port=port, task=task, cloud=cloud, options=options, queue=queue)
    err.print(f"serving {source} at {server.url} (stop with Ctrl-C)", soft_wrap=True)
    server.run()
