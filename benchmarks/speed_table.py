"""speed.json as the Markdown that the README and docs/results/speed.md show."""

from __future__ import annotations

from typing import Any


def speed_markdown(data: dict[str, Any], yardsticks: tuple[str, ...]) -> str:
    """Two tables, speed and cost of export, with what a reader must know to repeat them."""
    settings, quiet, contenders = data["settings"], data["quiet"], data["contenders"]
    second = "processor second" if settings["clock"] == "processor" else "second"
    present = [name for name in yardsticks if any(contender.startswith(name) for contender in contenders)]
    lines = [
        "# Speed on this host",
        "",
        f"{data['host']['cores']} cores ({data['host']['machine']}), {settings['threads']} threads each, "
        f"{settings['prompt_tokens']} prompt tokens, {settings['decode_steps']} decode steps, greedy, "
        f"{settings['rounds']} rounds taken in turns. Median tokens per {second}, spread (max - min over median); "
        "a ratio is the median of each round's own. `make bench` makes this file.",
        "",
        f"While it ran, other processes used {quiet['other_processes_cores']:.2f} cores; the waiting contenders at "
        f"most {max((c['idle_cpu_share'] for c in contenders.values()), default=0.0):.1%} of one.",
        "",
        "| | prefill | decode | " + "".join(f"decode / {name} | " for name in present) + "cores busy | MB |",
        "| --- | --- | --- | " + "--- | " * len(present) + "--- | --- |",
    ]
    for name, numbers in contenders.items():
        ratios = "".join(_ratio(numbers, f"decode_over_{yardstick}") + " | " for yardstick in present)
        lines.append(
            f"| {name} | {_rate(numbers, 'prefill')} | {_rate(numbers, 'decode')} | {ratios}"
            f"{numbers['cores_used']:.1f} | {numbers['megabytes']:.1f} |"
        )
    columns = 4 + len(present)
    for name, why in data.get("did_not_run", {}).items():
        lines.append(f"| {name} | did not run: {why} |" + " |" * (columns - 1))
    lines += ["", *(f"- {name}: {numbers['runtime']}" for name, numbers in contenders.items()), ""]
    if data["export"]:
        lines += [*_export_table(data["export"]), ""]
    return "\n".join(lines)


def _rate(numbers: dict[str, Any], phase: str) -> str:
    median, rounds = numbers[f"{phase}_tokens_per_s"], numbers[f"{phase}_rounds"]
    return f"{median:,.0f} ({(max(rounds) - min(rounds)) / median:.0%})"


def _ratio(numbers: dict[str, Any], key: str) -> str:
    low, high = numbers[f"{key}_range"]
    return "1" if low == high == 1 else f"{numbers[key]:.2f} ({low:.2f}-{high:.2f})"


def _export_table(export: dict[str, Any]) -> list[str]:
    """One row per exporter: seconds, processor seconds, peak memory and that as a multiple of the fp32 weights."""
    rows = [
        f"| {name} | failed: {cost['failed']} | | | |"
        if "failed" in cost
        else f"| {name} | {cost['wall_s']:.0f} | {cost['cpu_s']:.0f} | {cost['peak_rss_mb']:,.0f} | "
        f"{cost['peak_over_weights']:.1f} |"
        for name, cost in export.items()
    ]
    return [
        "Cost of making each, from the Hugging Face folder, start of Python included:",
        "",
        "| | seconds | CPU seconds | peak memory, MB | times the fp32 weights |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]
