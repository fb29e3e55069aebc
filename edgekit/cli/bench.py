"""``edgekit bench``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from edgekit.cli.showing import progress
from edgekit.cli.terminal import JsonOption, out, print_json, refuse_idle

if TYPE_CHECKING:
    from edgekit.workflows.bench import PhoneEstimate


def bench(
    context: typer.Context,
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
    from edgekit.workflows.bench import estimate_phone, estimate_phones, measure_here
    from edgekit.workflows.probe import check_estimates, require_close
    from edgekit.workflows.source import open_bundle

    if device not in (None, "host"):
        refuse_idle(context, "A phone's speed is estimated, not measured", "repeats")
    opened = open_bundle(bundle)
    if device == "list":
        _show_phones(estimate_phones(opened, prompt_tokens), json)
    elif device == "host":
        with progress("measuring") as update:
            check = check_estimates(opened, rounds=repeats, prompt_tokens=prompt_tokens, on_progress=update)
        _show({"device": "host", **asdict(check)}, f"{bundle} on this host, predicted", json)
        require_close(check)
    elif device is not None:
        _show_phone(estimate_phone(opened, device, prompt_tokens), bundle, json)
    else:
        with progress("measuring") as update:
            numbers = measure_here(opened, repeats=repeats, prompt_tokens=prompt_tokens, on_progress=update)
        _show(numbers, f"{bundle} on this host", json)


def _show(numbers: Mapping[str, Any], title: str, json: bool) -> None:
    if json:
        print_json(dict(numbers))
        return
    table = Table(title=title, show_header=False)
    for key, value in numbers.items():
        table.add_row(key, f"{value:,.2f}" if isinstance(value, float) else str(value))
    out.print(table)


def _show_phone(phone: PhoneEstimate, bundle: Path, json: bool) -> None:
    if json:
        print_json(phone.to_json())
        return
    device = phone.facts
    title = f"ESTIMATE, not a measurement: {bundle} on {phone.name} ({device.chip})"
    _show({"estimate": True, **phone.numbers()}, title, json=False)
    facts = f"{device.bandwidth_gb_s:g} GB/s peak, {device.ram_gb:g} GB RAM, {device.int8_gops:,.0f} int8 Gop/s peak"
    out.print(f"facts: {facts}. {device.derived}.")
    out.print("sources: " + " ".join(device.sources), soft_wrap=True)
    for reason in phone.assumptions.why:
        out.print(f"assumed: {reason}.")
    _show_caveat(phone)


def _show_phones(phones: Sequence[PhoneEstimate], json: bool) -> None:
    rows = [phone.numbers() for phone in phones]
    if json:
        print_json({"estimate": True, "caveat": phones[0].caveat, "devices": rows})
        return
    table = Table("device", "first token, s", "decode, tokens/s", "bound by", "memory, MB", "fits")
    for row in rows:
        fits = "yes" if row["fits"] else f"no ({row['usable_mb']:,.0f} usable)"
        first, rate = f"{row['time_to_first_token_s']:.2f}", f"{row['decode_tokens_per_s']:,.0f}"
        table.add_row(row["device"], first, rate, row["decode_bound"], f"{row['memory_mb']:,.0f}", fits)
    table.title = f"ESTIMATES, not measurements, {rows[0]['prompt_tokens']} prompt tokens; name one for its assumptions"
    out.print(table)
    _show_caveat(phones[0])


def _show_caveat(phone: PhoneEstimate) -> None:
    """It hangs on the artifact alone, so that one phone's is every phone's."""
    if phone.caveat is not None:
        out.print(f"caveat: {phone.caveat}.")
