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
    shown = {key: float(value) for key, value in last.items() if isinstance(value, int | float)}
    rows = [f"| {key} | {value:.4g} | {COLUMNS.get(key, '')} |" for key, value in shown.items()]
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
    x = [step["step"] for step in steps]
    reward.plot(x, [step["reward"] for step in steps], color=BLUE)
    if "call_price" in steps[-1]:
        reward.plot(x, [step["call_price"] for step in steps], color=ORANGE, ls="--", label="price of a call")
        reward.legend(fontsize=7)
    reward.set(title="mean reward of sampled responses", xlabel="step")
    decisions.plot(x, [step["local_accuracy"] for step in steps], color=BLUE, label="answered locally and right")
    decisions.plot(x, [step["kept_accuracy"] for step in steps], color=GREEN, ls="-.", label="right among those kept")
    decisions.plot(x, [step["call_fraction"] for step in steps], color=ORANGE, ls="--", label="called the cloud")
    decisions.set(title="share of sampled responses", xlabel="step", ylim=(0, 1))
    decisions.legend(fontsize=7)
    measured = [step for step in steps if "eval_local_accuracy" in step]
    for key, colour, line, label in HELD_OUT:
        at, values = [step["step"] for step in measured], [step[key] for step in measured]
        held.plot(at, values, color=colour, ls=line, marker="o", ms=4, label=label)
    held.set(title="held-out problems, greedy", xlabel="step", ylim=(0, 1))
    held.legend(fontsize=7)
    prompts.plot(x, [step["d1"] for step in steps], color=BLUE, label="D1: some response is right")
    prompts.plot(x, [step["d2"] for step in steps], color=ORANGE, ls="--", label="D2: kept of those left to the cloud")
    prompts.set(title="prompts that teach", xlabel="step")
    prompts.legend(fontsize=7)
    called = [step for step in steps if "tokens_before_call" in step]
    tokens.plot(x, [step["mean_tokens"] for step in steps], color=BLUE, label="all responses")
    before = [step["tokens_before_call"] for step in called]
    tokens.plot([step["step"] for step in called], before, color=ORANGE, ls="--", label="before a call")
    tokens.set(title="mean tokens", xlabel="step", ylim=(0, None))
    tokens.legend(fontsize=7)
    cloud.plot(x, list(accumulate(step["cloud_calls"] for step in steps)), color=BLUE)
    cloud.set(title="prompts sent to the cloud so far", xlabel="step", ylim=(0, None))
    for axes in (reward, decisions, held, prompts, tokens, cloud):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
