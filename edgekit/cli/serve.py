"""``edgekit serve``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.showing import stages
from edgekit.cli.terminal import TaskOption, err

LOOPBACK = "127.0.0.1"


def serve(
    source: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    cloud: Annotated[str, typer.Option(help="oracle[:accuracy], openai:MODEL@BASE_URL or none.")] = "oracle",
    host: Annotated[str, typer.Option(help="Where to listen; beyond loopback a key is needed.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8321,
    budget: Annotated[
        list[str] | None, typer.Option(help="CALLS/PERIOD or COSTusd/PERIOD: 20/hour, 100/day, 2.50usd/day, 9/total.")
    ] = None,
    consent: Annotated[
        str, typer.Option(help="always, never, or ask: on the page, before a prompt leaves.")
    ] = "always",
    redact: Annotated[bool, typer.Option("--redact/--no-redact", help="Replace what must not leave.")] = True,
    names: Annotated[Path | None, typer.Option(help="Names that must not leave, one a line.")] = None,
    region: Annotated[str | None, typer.Option(help="Whose national phone numbers are known: DE, US ...")] = None,
    prices: Annotated[Path | None, typer.Option(help="YAML, MODEL: {prompt: USD, completion: USD} a million.")] = None,
    on_failure: Annotated[str, typer.Option(help="local: the device's own attempt; say: only why.")] = "local",
    state: Annotated[Path | None, typer.Option(help="Where budget and log are kept; default ~/.local/state.")] = None,
    queue: Annotated[int, typer.Option(min=1, max=4096, help="Requests under way or waiting at most.")] = 64,
    task: TaskOption = None,
) -> None:
    """Serve a policy with the cloud behind it: OpenAI's chat API, and a page to try it at /.

    Beyond loopback the key in EDGEKIT_SERVE_API_KEY is asked for; the cloud's own is EDGEKIT_CLOUD_API_KEY.

    Example: edgekit serve out/demo/onnx --cloud openai:gpt-4o-mini@https://api.openai.com/v1 --budget 20/hour
    """
    from edgekit.errors import BackendMissing, EdgekitError, install_hint

    try:
        import uvicorn

        from edgekit.serve.app import ServeSettings, create_app
        from edgekit.serve.guard import is_loopback
    except ImportError as error:
        raise BackendMissing(f"cannot serve: {error.name} is not installed. {install_hint('serve')}.") from None
    from edgekit.workflows.serve import (
        SERVE_KEY_VARIABLE,
        HandOffOptions,
        open_session,
        recorded_cases,
        state_folder,
    )

    _one_of("--consent", consent, ("always", "never", "ask"))
    _one_of("--on-failure", on_failure, ("local", "say"))
    key = os.environ.get(SERVE_KEY_VARIABLE) or None
    if not is_loopback(host) and key is None:
        raise EdgekitError(
            f"no key: {host} is open to others. Anyone could spend your budget. Set {SERVE_KEY_VARIABLE}."
        )
    options = HandOffOptions(
        tuple(budget or ()), consent, redact, names, region, prices, on_failure, state or state_folder()  # type: ignore[arg-type]
    )  # fmt: skip
    with stages("opening"):
        session = open_session(source, task=task, cloud=cloud, options=options)
        cases = recorded_cases(source)
    settings = ServeSettings(
        model=source.name or "edgekit",
        hosts=(LOOPBACK, "localhost", "::1", host),
        api_key=key,
        queue=queue,
        cases=lambda: cases,
    )
    config = uvicorn.Config(
        create_app(session, settings),
        host,
        port,
        log_level="warning",
        timeout_graceful_shutdown=30,
        server_header=False,
    )
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    shown = f"[{host}]" if ":" in host else host
    err.print(f"serving {source} at http://{shown}:{socket.getsockname()[1]}/ (stop with Ctrl-C)", markup=False)
    server.run(sockets=[socket])


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        from edgekit.errors import EdgekitError

        raise EdgekitError(f"unknown {name}: {value}. It must be one of {', '.join(known)}.")
