"""The picture of a routing policy: overall accuracy against the share of prompts handed off."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.evaluate.answers import Evaluation
from edgekit.evaluate.bounds import oracle_accuracy, random_accuracy

# Okabe and Ito's colours: told apart with colour-blindness, and by line style in print.
BLUE, ORANGE, BLACK = "#0072B2", "#E69F00", "#000000"


def accuracy_curve(
    scores: Sequence[float], local_correct: Sequence[bool], cloud_right: Sequence[float]
) -> NDArray[np.float64]:
    """Overall accuracy (n + 1,) when the 0, 1, ... n prompts with the highest ``scores`` are handed off."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    local, cloud = (np.asarray(right, np.float64)[order] for right in (local_correct, cloud_right))
    gained = np.concatenate([[0.0], np.cumsum(cloud - local)])
    return (local.sum() + gained) / len(local)


def draw_curve(evaluation: Evaluation, cloud: str) -> bytes:
    """A PNG: the policy's curve as its marker bias moves, between random and oracle routing, and where it stands."""
    from matplotlib.figure import Figure

    report = evaluation.report
    here, there = np.asarray(evaluation.local_correct, np.float64), np.asarray(evaluation.cloud_right)
    curve = accuracy_curve(evaluation.scores, evaluation.local_correct, evaluation.cloud_right)
    share = np.linspace(0, 1, len(curve))
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    helps, harms = ((1 - here) * there).mean(), (here * (1 - there)).mean()
    oracle = oracle_accuracy(np.float64(here.mean()), helps, harms, share)
    random = random_accuracy(np.float64(here.mean()), there.mean(), share)
    axes.plot(share, oracle, "--", color=BLACK, lw=1.2, label="oracle router: knows which answers are wrong")
    axes.plot(share, curve, color=BLUE, lw=2, label="the policy's own marker, as its bias moves")
    axes.plot(share, random, ":", color=ORANGE, lw=2, label="random hand-off")
    label = f"this policy: {report.overall_accuracy:.1%} at {report.call_fraction:.1%} calls"
    axes.plot([report.call_fraction], [report.overall_accuracy], "o", color=BLUE, ms=8, label=label)
    axes.set(xlabel="share of prompts handed to the cloud", ylabel="overall accuracy", xlim=(0, 1))
    axes.set_title(f"{report.n} held-out problems, cloud: {cloud}", fontsize=10, parse_math=False)
    axes.legend(fontsize=8, loc="lower right")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140)
    return buffer.getvalue()
