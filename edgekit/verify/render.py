"""The verification report as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgekit.verify.device_check import DeviceVerdict, decode_speed
from edgekit.verify.judge import Change
from edgekit.verify.parity import Hop
from edgekit.verify.report import VerifyReport

ROWS = (
    ("same decision", "decision_agreement", True),
    ("  after the same tokens", "decision_agreement_same_answer", True),
    ("kept, then called", "kept_to_called", False),
    ("called, then kept", "called_to_kept", False),
    ("flips near the margin", "near_margin_flips", False),
    ("flips after other text", "diverged_flips", False),
    ("broken flips", "broken", False),
    ("same answer (both kept)", "answer_agreement", True),
    ("same tokens", "token_agreement", True),
    ("call fraction before", "call_fraction_before", True),
    ("call fraction after", "call_fraction_after", True),
)
COLOURS = {"MATCH": "green", "MISMATCH": "red", "NOT_RUN": "yellow"}


def render(report: VerifyReport | DeviceVerdict) -> Group:
    """Everything ``edgekit verify`` shows: the table of hops, accuracies, faults, and the outcome last."""
    if isinstance(report, DeviceVerdict):
        return render_device(report)
    parts: list[Table | Text] = []
    if report.overall is not None:
        parts.append(hops_table(report))
        parts += [Text(line) for line in _told(report)]
    parts += [Text(f"- {fault}", style=COLOURS[report.outcome]) for fault in report.faults]
    parts += [Text(f"- {note}", style="yellow") for note in report.notes]
    outcome = f"{report.outcome}: {report.n} prompts on {report.runtime}"
    parts.append(Text(outcome, style=f"bold {COLOURS[report.outcome]}"))
    return Group(*parts)


def render_device(verdict: DeviceVerdict) -> Group:
    """What ``edgekit verify --device-report`` shows; the first divergence and the outcome come last."""
    report, colour = verdict.report, COLOURS[verdict.outcome]
    hops = {
        "simulator\n> device": verdict.simulator,
        "quantized reference\n> device": verdict.lowering,
        "reference\n> device": verdict.overall,
    }
    parts: list[Table | Text] = [measures_table(hops)]
    if verdict.simulator_runtime is None:
        parts.append(Text("this host cannot run the artifact: only recorded decisions were compared"))
    speed = decode_speed(report.cases)
    took = "not timed" if speed is None else f"{speed:.0f} tokens/s decoding"
    parts.append(Text(f"{len(report.cases) - len(verdict.mismatched)} of {len(report.cases)} cases match; {took}"))
    if verdict.first_divergence is not None:
        parts.append(Text(f"first divergence: {verdict.first_divergence.sentence}"))
    parts += [Text(f"- {fault}", style=colour) for fault in verdict.faults]
    ran = f"{report.runtime.name} {report.runtime.version} on {report.device.model}, {report.device.os}"
    parts.append(Text(f"{verdict.outcome}: {len(report.cases)} prompts, {ran}", style=f"bold {colour}"))
    return Group(*parts)


def hops_table(report: VerifyReport) -> Table:
    """One column per hop, one row per measure."""
    floor = report.noise_floor
    hops = {
        "quantization\nreference > quantized": report.quantization,
        "lowering\nquantized > artifact": report.lowering,
        "noise floor\nrounding alone": None if floor is None else floor.hop,
        "overall": report.overall,
    }
    table = measures_table(hops)
    differences = (report.max_abs_logit_diff, None if floor is None else floor.replay.max_abs_logit_diff)
    table.add_row("largest logit difference", "", *("-" if d is None else f"{d:.3g}" for d in differences), "")
    return table


def measures_table(hops: Mapping[str, Hop | None]) -> Table:
    """A column per hop, named by its heading, and a row per measure."""
    table = Table()
    table.add_column("")
    for heading in hops:
        table.add_column(heading, justify="right")
    for label, key, share in ROWS:
        table.add_row(label, *[_cell(hop, key, share) for hop in hops.values()])
        if key == "decision_agreement":
            table.add_row("  95 % interval", *[_interval(hop) for hop in hops.values()])
    return table


def _cell(hop: Hop | None, key: str, share: bool) -> str:
    value = None if hop is None else getattr(hop, key)
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if share else str(value)


def _interval(hop: Hop | None) -> str:
    if hop is None:
        return "-"
    low, high = hop.decision_agreement_interval
    return f"{100 * low:.1f}-{100 * high:.1f} %"


def _told(report: VerifyReport) -> Iterator[str]:
    """What was judged, a line each."""
    replay, late, calibration = report.replay, report.late_replay, report.calibration
    if replay is not None:
        yield (
            f"replayed on the quantized reference's own text: {100 * replay.choice_agreement:.2f} % of {replay.steps} "
            f"choices and {100 * replay.decision_agreement:.1f} % of decisions agree"
        )
    if late is not None:
        yield (
            f"replayed at positions that no prompt reached, up to {late.end}: {100 * (1 - late.other.after):.1f} % of "
            f"{late.steps} choices agree (rounding alone leaves {100 * (1 - late.other.before):.1f} %)"
        )
    if report.call_fraction_change is not None:
        yield f"share of calls: {_change(report.call_fraction_change)}"
    if report.overall_accuracy_change is None:
        yield "overall accuracy: not graded (no reference answers here; --task names a task that knows these prompts)"
    else:
        yield f"overall accuracy with the cloud: {_change(report.overall_accuracy_change)}"
    if calibration is not None and calibration.bias_before != calibration.bias_after:
        hop = calibration.hop
        yield (
            f"calibration, on purpose: marker bias {calibration.bias_before:+.3f} to {calibration.bias_after:+.3f}, "
            f"calls {100 * hop.call_fraction_before:.1f} to {100 * hop.call_fraction_after:.1f} %"
        )


def _change(change: Change) -> str:
    low, high = change.interval
    return (
        f"reference {100 * change.before:.1f} %, artifact {100 * change.after:.1f} %: {100 * change.value:+.1f} points "
        f"(paired, 95 %: {100 * low:+.1f} to {100 * high:+.1f})"
    )
