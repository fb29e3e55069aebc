"""The drift study: what each precision does to a policy's decisions, on every target.

    python benchmarks/drift_study.py RUN --task arithmetic --n 500 [--qat onnx=RUN2[:RECIPE] ...] [--bundles DIR]

Every variant is exported, its artifact decodes ``n`` test problems once with the marker forbidden, and from the
margins met on the way each prompt's decision follows at any marker bias: the policy's own, and the artifact's
(fitted at export on validation problems). What is done is kept in DIR, so a study that was cut goes on. Writes
drift.json, drift.md and drift.png to --out.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from edgekit.atomic_write import write_file
from edgekit.bundle.load import Bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.evaluate.answers import Decider, PolicyDecider
from edgekit.evaluate.intervals import wilson_interval
from edgekit.export.pipeline import export
from edgekit.policy.checkpoint import load_policy
from edgekit.quantize.quantized import quantize_policy
from edgekit.recipes.lookup import find_recipe
from edgekit.recipes.quant_recipe import QuantRecipe
from edgekit.routing.decision_rule import SOLO
from edgekit.simulate.measure import measure
from edgekit.tasks import get_task
from edgekit.tasks.base import Problem, Task
from edgekit.workflows.export import bias_fitter
from edgekit.workflows.prompts import calibration_prompts
from edgekit.workflows.source import bundle_decider

TARGETS = ("onnx", "executorch", "coreml")
VARIANTS = ("fp32", "int8", "int4", "int4_decisions", "int4_qat")
QAT_RECIPE = "int4"  # what a fine-tuned policy is exported with, unless named: its weights lie on that recipe's grid
NEVER = -1e9  # stands for minus infinity, which JSON lacks


@dataclass(frozen=True)
class Solo:
    """One prompt decoded with the marker forbidden: its largest raw marker margin (null: no answer, always calls)."""

    score: float | None
    right: bool
    answer: str | None

    def calls(self, bias: float) -> bool:
        """Whether the prompt is handed off under ``bias``."""
        return self.score is None or self.score + bias > 0


@dataclass(frozen=True)
class Row:
    """One artifact of the study. Overall accuracies are with a cloud that is always right.

    ``called``, ``right``: what became of each problem, a digit each; ``right`` is what it would have solved alone.
    """

    target: str
    variant: str
    n: int
    agreement: float
    agreement_low: float
    agreement_high: float
    kept_to_called: int
    called_to_kept: int
    agreement_uncalibrated: float
    call_fraction_reference: float
    call_fraction_uncalibrated: float
    call_fraction: float
    marker_bias: float
    solo_accuracy_reference: float
    solo_accuracy: float
    accuracy_reference: float
    accuracy: float
    gained: int
    lost: int
    accuracy_change_low: float
    accuracy_change_high: float
    same_answer: float
    lowering_agreement: float
    decode_tokens_per_s: float
    artifact_mb: float
    called: str
    right: str


def solo_pass(open_source: Callable[[], Decider], problems: Sequence[Problem], task: Task, kept: Path) -> list[Solo]:
    """Decode ``problems``, but for those at the beginning that an earlier run of the study decoded."""
    solo = [Solo(**item) for item in json.loads(kept.read_text())] if kept.exists() else []
    if left := problems[len(solo) :]:
        decisions = open_source().decide([problem.prompt for problem in left], SOLO)
        solo += [
            Solo(
                None if decision.called else max(decision.marker_margin, NEVER),
                task.grade(problem, decision.answer),
                decision.answer,
            )
            for problem, decision in zip(left, decisions, strict=True)
        ]
        write_file(kept, json.dumps([asdict(item) for item in solo]))
    return solo[: len(problems)]


def agreement(before: Sequence[Solo], after: Sequence[Solo], bias_before: float, bias_after: float) -> list[int]:
    """Per prompt: 0 same decision, 1 kept became called, -1 called became kept."""
    return [
        int(b.calls(bias_after)) - int(a.calls(bias_before)) for a, b in zip(before, after, strict=True)
    ]  # fmt: skip


def accuracy(solo: Sequence[Solo], bias: float) -> float:
    """Share right when every call is answered rightly."""
    return sum(item.right or item.calls(bias) for item in solo) / len(solo)


def paired_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """95 % interval of a change in accuracy on the same ``n`` prompts (Agresti and Min, Stat. Med. 24, 2005)."""
    more, fewer, size = gained + 0.5, lost + 0.5, n + 2
    change = (more - fewer) / size
    spread = 1.96 * math.sqrt(more + fewer - size * change**2) / size
    return change - spread, change + spread


def fraction(solo: Sequence[Solo], bias: float) -> float:
    """Share handed off."""
    return sum(item.calls(bias) for item in solo) / len(solo)


def study_one(
    target: str, variant: str, bundle: Bundle, reference: list[Solo], twin: list[Solo], solo: list[Solo], bias: float
) -> Row:
    """The row of one artifact; ``bias`` is the reference's own."""
    own = bundle.routing.marker_bias
    flips = agreement(reference, solo, bias, own)
    same = flips.count(0)
    low, high = wilson_interval(same, len(flips))
    right = [(a.right or a.calls(bias), b.right or b.calls(own)) for a, b in zip(reference, solo, strict=True)]
    gained, lost = right.count((False, True)), right.count((True, False))
    change_low, change_high = paired_interval(gained, lost, len(flips))
    numbers = measure(bundle, repeats=3)
    return Row(
        target=target,
        variant=variant,
        n=len(flips),
        agreement=same / len(flips),
        agreement_low=low,
        agreement_high=high,
        kept_to_called=flips.count(1),
        called_to_kept=flips.count(-1),
        agreement_uncalibrated=agreement(reference, solo, bias, bias).count(0) / len(flips),
        call_fraction_reference=fraction(reference, bias),
        call_fraction_uncalibrated=fraction(solo, bias),
        call_fraction=fraction(solo, own),
        marker_bias=own,
        solo_accuracy_reference=sum(item.right for item in reference) / len(reference),
        solo_accuracy=sum(item.right for item in solo) / len(solo),
        accuracy_reference=accuracy(reference, bias),
        accuracy=accuracy(solo, own),
        gained=gained,
        lost=lost,
        accuracy_change_low=change_low,
        accuracy_change_high=change_high,
        same_answer=sum(a.answer == b.answer for a, b in zip(reference, solo, strict=True)) / len(solo),
        lowering_agreement=agreement(twin, solo, own, own).count(0) / len(flips),
        decode_tokens_per_s=numbers["decode_tokens_per_s"],
        artifact_mb=numbers["artifact_mb"],
        called="".join(str(int(item.calls(own))) for item in solo),
        right="".join(str(int(item.right)) for item in solo),
    )


def make_bundle(source: Path, recipe_name: str, target: str, task: str, out: Path) -> Bundle:
    """The bundle at ``out``, exported with its own marker bias if it is not there yet."""
    if not (out / "manifest.json").exists():
        recipe = find_recipe(recipe_name, target)
        prompts = [problem.prompt for problem in get_task(task).problems("test", 32, seed=1)]
        calibration = calibration_prompts(recipe.quantize, task)
        fit = bias_fitter(task)
        export(source, recipe, out, prompts=prompts, task=task, calibration_prompts=calibration, fit_bias=fit)
    return open_bundle(out)


def open_twin(policy_folder: Path, bundle: Bundle, task: str) -> PolicyDecider:
    """The quantized reference of ``bundle``."""
    recipe = QuantRecipe.model_validate(bundle.manifest.recipe["quantize"])
    twin = quantize_policy(load_policy(policy_folder), recipe, calibration_prompts(recipe, task))
    return PolicyDecider(twin, bundle.manifest.model.context_length)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Decision agreement against size, one colour a target, with 95 % intervals."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for target, colour, marker in zip(TARGETS, ("#0072B2", "#D55E00", "#009E73"), "osD", strict=True):
        mine = sorted((row for row in rows if row.target == target), key=lambda row: row.artifact_mb)
        if not mine:
            continue
        x, y = [row.artifact_mb for row in mine], [100 * row.agreement for row in mine]
        spread = [
            [max(0.0, 100 * (row.agreement - row.agreement_low)) for row in mine],
            [max(0.0, 100 * (row.agreement_high - row.agreement)) for row in mine],
        ]
        axes.errorbar(x, y, yerr=spread, color=colour, marker=marker, linestyle="none", capsize=3, label=target)
        for row in mine:
            place = (row.artifact_mb, 100 * row.agreement)  # slanted: at 100 % they stand side by side
            axes.annotate(row.variant, place, (2, 5), textcoords="offset points", size=7, rotation=50, color=colour)
    axes.axhline(99.5, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlabel="artifact, MB (log)", ylabel="same decision as the fp32 reference, %")
    axes.set_xticks([75, 100, 150, 250, 500], labels=["75", "100", "150", "250", "500"])
    axes.minorticks_off()
    axes.margins(y=0.25)
    axes.set_yticks([tick for tick in axes.get_yticks() if tick < 100.001])
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)


def table(rows: Sequence[Row], command: str) -> str:
    """The study as Markdown."""
    columns = (
        "target", "variant", "same decision (95 %)", "kept > called", "called > kept",
        "calls: reference, before and after calibration", "solo", "overall", "gained, lost",
        "change of overall, points (95 %)", "same answer", "lowering hop", "tokens/s", "MB",
    )  # fmt: skip
    head = f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|\n"
    lines = [
        f"| {r.target} | {r.variant} | {r.agreement:.2%} ({r.agreement_low:.1%} to {r.agreement_high:.1%}) "
        f"| {r.kept_to_called} | {r.called_to_kept} | {r.call_fraction_reference:.1%}, "
        f"{r.call_fraction_uncalibrated:.1%}, {r.call_fraction:.1%} | {r.solo_accuracy:.1%} | {r.accuracy:.1%} "
        f"| {r.gained}, {r.lost} | {100 * (r.accuracy - r.accuracy_reference):+.2f} "
        f"({100 * r.accuracy_change_low:+.2f} to {100 * r.accuracy_change_high:+.2f}) "
        f"| {r.same_answer:.1%} | {r.lowering_agreement:.2%} | {r.decode_tokens_per_s:.0f} | {r.artifact_mb:.0f} |\n"
        for r in rows
    ]
    first = rows[0]
    note = (
        f"`{command}`\n\nReference: PyTorch fp32, {first.n} held-out problems, greedy; alone "
        f"{first.solo_accuracy_reference:.1%}, calls {first.call_fraction_reference:.1%}, overall "
        f"{first.accuracy_reference:.1%} with a cloud that is always right.\n\n"
    )
    return note + head + "".join(lines)


def run_study(options: argparse.Namespace, command: str) -> None:
    """Export, decode and compare every variant; results are written after each."""
    task = get_task(options.task)
    problems = task.problems("test", options.n, seed=options.seed)
    policy = load_policy(options.run / "policy")
    bias = policy.routing.marker_bias
    options.bundles.mkdir(parents=True, exist_ok=True)
    reference = solo_pass(lambda: PolicyDecider(policy), problems, task, options.bundles / "reference.json")
    qat = {name: given.partition(":") for name, _, given in (item.partition("=") for item in options.qat)}
    rows: list[Row] = []
    for target in options.targets:
        for variant in options.variants:
            if variant == "int4_qat" and target not in qat:
                continue
            source, recipe = options.run, f"{target}_{variant}"
            if variant == "int4_qat":
                folder_name, _, named = qat[target]
                source, recipe = Path(folder_name), named or f"{target}_{QAT_RECIPE}"
            folder = options.bundles / f"{target}_{variant}"
            bundle = make_bundle(source, recipe, target, options.task, folder)
            kept = [options.bundles / f"{folder.name}.{kind}.json" for kind in ("artifact", "twin")]
            solo = solo_pass(lambda folder=folder: bundle_decider(open_bundle(folder)), problems, task, kept[0])
            twin = solo_pass(partial(open_twin, source / "policy", bundle, options.task), problems, task, kept[1])
            rows.append(study_one(target, variant, bundle, reference, twin, solo, bias))
            write_results(rows, options.out, command)
            print(f"{target} {variant}: {rows[-1].agreement:.1%}", flush=True)


def write_results(rows: Sequence[Row], out: Path, command: str) -> None:
    """drift.json, drift.md, drift.png."""
    out.mkdir(parents=True, exist_ok=True)
    data: dict[str, Any] = {"command": command, "rows": [asdict(row) for row in rows]}
    write_file(out / "drift.json", json.dumps(data, indent=2) + "\n")
    write_file(out / "drift.md", "# Drift study\n\n" + table(rows, command) + "\n![agreement](drift.png)\n")
    draw(rows, out / "drift.png")


def main() -> None:
    """Read the command line and run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--task", default="arithmetic")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--qat", nargs="*", default=[], metavar="TARGET=RUN[:RECIPE]")
    parser.add_argument("--bundles", type=Path, default=Path("out/drift"))
    parser.add_argument("--out", type=Path, default=Path("out/drift_study"))
    options = parser.parse_args()
    if unknown := sorted({item.partition("=")[0] for item in options.qat} - set(options.targets)):
        parser.error(f"--qat names no target of this study: {', '.join(unknown)}. Say TARGET=RUN.")
    try:
        run_study(options, shlex.join(["python", *sys.argv]))
    except EdgekitError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
