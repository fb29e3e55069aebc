"""A run's report: learning curves as a picture and a page that shows them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from edgekit.atomic_write import write_file
from edgekit.train.metrics import read_metrics, warnings_of

# Okabe and Ito's colours: told apart with colour-blindness, and by lightness in print.
BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#E69F00", "#009E73", "#000000"


def write_report(run_dir: Path) -> Path:
    """Draw ``run_dir``/metrics.jsonl into report/learning_curves.png and report/index.md; returns the page."""
    steps = read_metrics(run_dir)
    write_file(run_dir / "report" / "learning_curves.png", _draw(steps))
    last = steps[-1]
    rows = [f"| {key} | {float(value):.4g} |" for key, value in last.items() if isinstance(value, int | float)]
    page = ["# Training report", "", "![learning curves](learning_curves.png)", ""]
    page += [*(f"**{warning}**" for warning in warnings_of(steps)), ""]
    page += [f"Last step ({last['step']}):", "", "| metric | value |", "| --- | --- |", *rows, ""]
    index = run_dir / "report" / "index.md"
    write_file(index, "\n".join(page))
    return index


def _draw(steps: list[dict[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.4), layout="constrained")
    reward, decisions, prompts, tokens = figure.subplots(1, 4)
    x = [step["step"] for step in steps]
    reward.plot(x, [step["reward"] for step in steps], color=BLUE)
    if "call_price" in steps[-1]:
        reward.plot(x, [step["call_price"] for step in steps], color=ORANGE, ls="--", label="price of a call")
        reward.legend(fontsize=7)
    reward.set(title="mean reward of sampled responses", xlabel="step")
    decisions.plot(x, [step["local_accuracy"] for step in steps], color=BLUE, label="answered locally and right")
    decisions.plot(x, [step["kept_accuracy"] for step in steps], color=GREEN, ls="-.", label="right among those kept")
    decisions.plot(x, [step["call_fraction"] for step in steps], color=ORANGE, ls="--", label="called the cloud")
    held_out = [step for step in steps if "eval_local_accuracy" in step]
    held_out_x = [step["step"] for step in held_out]
    alone = [step["eval_local_accuracy"] for step in held_out]
    decisions.plot(held_out_x, alone, "o", color=BLACK, ms=4, label="held out, alone, greedy")
    decisions.set(title="share of responses", xlabel="step", ylim=(0, 1))
    decisions.legend(fontsize=7)
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
    for axes in (reward, decisions, prompts, tokens):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
