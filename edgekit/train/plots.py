"""A run's report: learning curves as a picture and a page that shows them."""

from __future__ import annotations

import io
from itertools import accumulate
from pathlib import Path
from typing import Any

from edgekit.atomic_write import write_file
from edgekit.train.health import findings_at_end
from edgekit.train.metrics import read_metrics
from edgekit.train.run_directory import algorithm_in
from edgekit.train.summary import COLUMNS, what_happened

# Okabe and Ito's colours: told apart with colour-blindness, and by lightness in print.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
HELD_OUT = (
    ("eval_local_accuracy", BLUE, "-", "right alone, marker forbidden"),
    ("eval_kept_accuracy", GREEN, "-.", "right among those kept"),
    ("eval_call_fraction", ORANGE, "--", "called by itself"),
)


def write_report(run_dir: Path) -> Path:
    """Draw ``run_dir``/metrics.jsonl into report/learning_curves.png and report/index.md; returns the page."""
    steps = read_metrics(run_dir)
    write_file(run_dir / "report" / "learning_curves.png", _draw(steps))
    last = steps[-1]
    rows = [f"| {key} | {float(value):.4g} | {COLUMNS.get(key, '')} |" for key, value in last.items()]
    page = ["# Training report", "", what_happened(steps), ""]
    for finding in findings_at_end(steps, algorithm_in(run_dir)):
        page += [f"**{finding.text}**", ""]
    page += ["![learning curves](learning_curves.png)", ""]
    page += [f"Last step ({last['step']}):", "", "| metric | value | what it is |", "| --- | --- | --- |", *rows, ""]
    index = run_dir / "report" / "index.md"
    write_file(index, "\n".join(page))
    return index


def _draw(steps: list[dict[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.4), layout="constrained")
    reward, decisions, held, prompts, tokens, cloud = figure.subplots(2, 3).ravel()
    reward.plot(*_curve(steps, "reward"), color=BLUE)
    if "call_price" in steps[-1]:
        reward.plot(*_curve(steps, "call_price"), color=ORANGE, ls="--", label="price of a call")
        reward.legend(fontsize=7)
    reward.set(title="mean reward of sampled responses", xlabel="step")
    decisions.plot(*_curve(steps, "local_accuracy"), color=BLUE, label="answered locally and right")
    decisions.plot(*_curve(steps, "kept_accuracy"), color=GREEN, ls="-.", label="right among those kept")
    decisions.plot(*_curve(steps, "call_fraction"), color=ORANGE, ls="--", label="called the cloud")
    decisions.set(title="share of sampled responses", xlabel="step", ylim=(0, 1))
    decisions.legend(fontsize=7)
    for key, colour, line, label in HELD_OUT:
        held.plot(*_curve(steps, key), color=colour, ls=line, marker="o", ms=4, label=label)
    held.set(title="held-out problems, greedy", xlabel="step", ylim=(0, 1))
    held.legend(fontsize=7)
    prompts.plot(*_curve(steps, "d1"), color=BLUE, label="D1: some response is right")
    prompts.plot(*_curve(steps, "d2"), color=ORANGE, ls="--", label="D2: kept of those left to the cloud")
    prompts.set(title="prompts that teach", xlabel="step")
    prompts.legend(fontsize=7)
    tokens.plot(*_curve(steps, "mean_tokens"), color=BLUE, label="all responses")
    tokens.plot(*_curve(steps, "tokens_before_call"), color=ORANGE, ls="--", label="before a call")
    tokens.set(title="mean tokens", xlabel="step", ylim=(0, None))
    tokens.legend(fontsize=7)
    x, calls = _curve(steps, "cloud_calls")
    cloud.plot(x, list(accumulate(calls)), color=BLUE)
    cloud.set(title="prompts sent to the cloud so far", xlabel="step", ylim=(0, None))
    for axes in (reward, decisions, held, prompts, tokens, cloud):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _curve(steps: list[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """The steps that have ``key``, and what it is there."""
    there = [step for step in steps if key in step]
    return [step["step"] for step in there], [step[key] for step in there]
