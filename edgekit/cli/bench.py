"""``edgekit bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from edgekit.cli.showing import progress
from edgekit.cli.terminal import JsonOption, out, print_json

if TYPE_CHECKING:
    from edgekit.bundle.load import Bundle


def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle directory.")],
    repeats: Annotated[int, typer.Option(min=1, help="Measurements; the median is reported.")] = 5,
    device: Annotated[
        str | None,
        typer.Option(help="Estimate for a device instead: pixel-9, galaxy-s24, iphone-15...; list; host to check."),
    ] = None,
    prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Length of the prompt; 128 if it fits.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure the artifact's speed, memory and size on this host, or estimate them for a phone.

    With --device host the way of estimating is checked here: exit code 1 if it is off by more than a quarter.

    Example: edgekit bench out/demo/onnx

    Example: edgekit bench out/demo/coreml --device iphone-15
    """
    from edgekit.bundle.load import open_bundle
    from edgekit.simulate.measure import measure

    opened = open_bundle(bundle)
    if device is None:
        with progress("measuring") as update:
            numbers: dict[str, Any] = measure(opened, repeats, update, prompt_tokens)
        _show(numbers, f"{bundle} on this host", json)
    elif device == "list":
        _list_devices(opened, prompt_tokens, json)
    elif device == "host":
        _check_host(opened, max(repeats, 5), prompt_tokens, json)
    else:
        _estimate(opened, device, prompt_tokens, json)


def _show(numbers: dict[str, Any], title: str, json: bool) -> None:
    if json:
        print_json(numbers)
        return
    table = Table(title=title, show_header=False)
    for key, value in numbers.items():
        table.add_row(key, f"{value:,.2f}" if isinstance(value, float) else str(value))
    out.print(table)


def _numbers(opened: Bundle, device: str, prompt_tokens: int | None) -> dict[str, Any]:
    from dataclasses import asdict

    from edgekit.simulate.devices import estimate, get_device
    from edgekit.simulate.measure import sizes
    from edgekit.simulate.workload import count_workload

    work = count_workload(opened.manifest)
    tokens, steps = sizes(work.context_length, prompt_tokens)
    return {"device": device, "prompt_tokens": tokens, **asdict(estimate(work, get_device(device), tokens, steps))}


def _estimate(opened: Bundle, name: str, prompt_tokens: int | None, json: bool) -> None:
    from dataclasses import asdict

    from edgekit.simulate.devices import assumptions, get_device
    from edgekit.simulate.workload import count_workload

    numbers = {"estimate": True, **_numbers(opened, name, prompt_tokens)}
    device, assume = get_device(name), assumptions()
    if json:
        print_json(numbers | {"facts": asdict(device), "work": asdict(count_workload(opened.manifest)),
                              "assumptions": asdict(assume)})  # fmt: skip
        return
    _show(numbers, f"ESTIMATE, not a measurement: {opened.path} on {name} ({device.chip})", json=False)
    facts = f"{device.bandwidth_gb_s:g} GB/s peak, {device.ram_gb:g} GB RAM, {device.int8_gops:,.0f} int8 Gop/s peak"
    out.print(f"facts: {facts}. {device.derived}.")
    out.print("sources: " + " ".join(device.sources), soft_wrap=True)
    for reason in assume.why:
        out.print(f"assumed: {reason}.")


def _list_devices(opened: Bundle, prompt_tokens: int | None, json: bool) -> None:
    from edgekit.simulate.devices import device_names

    rows = [_numbers(opened, name, prompt_tokens) for name in device_names()]
    if json:
        print_json({"estimate": True, "devices": rows})
        return
    table = Table("device", "first token, s", "decode, tokens/s", "bound by", "memory, MB", "fits")
    for row in rows:
        fits = "yes" if row["fits"] else f"no ({row['usable_mb']:,.0f} usable)"
        first, rate = f"{row['time_to_first_token_s']:.2f}", f"{row['decode_tokens_per_s']:,.0f}"
        table.add_row(row["device"], first, rate, row["decode_bound"], f"{row['memory_mb']:,.0f}", fits)
    table.title = f"ESTIMATES, not measurements, {rows[0]['prompt_tokens']} prompt tokens; name one for its assumptions"
    out.print(table)


def _check_host(opened: Bundle, rounds: int, prompt_tokens: int | None, json: bool) -> None:
    from dataclasses import asdict

    from edgekit.errors import CheckFailed
    from edgekit.simulate.host import TOLERANCE
    from edgekit.simulate.measure import sizes
    from edgekit.workflows.probe import check_estimates

    tokens, _ = sizes(opened.manifest.model.context_length, prompt_tokens)
    with progress("measuring") as update:
        check = check_estimates(opened, rounds=rounds, prompt_tokens=prompt_tokens, on_progress=update)
    _show({"device": "host", "prompt_tokens": tokens, **asdict(check)}, f"{opened.path} on this host, predicted", json)
    if not check.holds:
        raise CheckFailed(
            f"predicted {check.predicted_tokens_per_s:,.0f} tokens/s, measured {check.measured_tokens_per_s:,.0f}: "
            f"more than {TOLERANCE:.0%} apart. Run it again on an idle machine, with more --repeats."
        )
