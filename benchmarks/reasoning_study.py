"""What a recipe's grid does to a policy that reasons: what it solves, when it calls, and what of it is another text.

    python benchmarks/reasoning_study.py POLICY --n 500 --recipes onnx_int8 onnx_int4 onnx_int4_decisions
        [--grid NAME=POLICY2[@RECIPE] ...] --out docs/results/reasoning

Each policy decodes the same ``n`` test problems greedily at its natural call share, in PyTorch, rounded as the
recipe's target rounds weights and activations (the quantized reference of ``edgekit verify``). A policy named by
--grid was trained on a grid and runs as it is, or rounded again by another target's recipe. Each is decoded once and
kept in --out, so a study that was cut goes on; per-problem results are there as NAME.json.gz, the table as study.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from drift_study import paired_interval

from edgekit.atomic_write import write_file
from edgekit.evaluate.answers import PolicyDecider
from edgekit.evaluate.intervals import wilson_interval
from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.quantize.quantized import quantize_policy
from edgekit.recipes.lookup import find_recipe
from edgekit.routing.decoder import Decision
from edgekit.tasks import get_task
from edgekit.tasks.base import Problem, Task
from edgekit.workflows.prompts import calibration_prompts

REFERENCE = "fp32"


@dataclass(frozen=True)
class Result:
    """What became of one problem. ``before``: tokens before the marker or the answer's opening, else all."""

    id: str
    text: str
    reason: str
    called: bool
    right: bool
    tokens: int
    before: int


def decode(policy: Policy, problems: Sequence[Problem], task: Task) -> list[Result]:
    """One greedy response to each of ``problems``."""
    decisions = PolicyDecider(policy).decide([problem.prompt for problem in problems])
    return [result_of(policy, problem, decision, task) for problem, decision in zip(problems, decisions, strict=True)]


def result_of(policy: Policy, problem: Problem, decision: Decision, task: Task) -> Result:
    """What became of ``problem`` by a decision written in ``policy``'s tokens."""
    ids, opening = decision.token_ids, policy.tokenizer.token_to_id(policy.routing.answer.open)
    before = len(ids) - 1 if decision.reason == "marker" else ids.index(opening) if opening in ids else len(ids)
    right = task.grade(problem, decision.answer)
    return Result(problem.id, decision.text, decision.reason, decision.called, right, len(ids), before)


def kept(path: Path, problems: Sequence[Problem], make: Callable[[Sequence[Problem]], list[Result]]) -> list[Result]:
    """What is kept at ``path`` for these problems, and perhaps more after them; what is missing is made and kept."""
    results = [Result(**item) for item in json.loads(gzip.decompress(path.read_bytes()))] if path.exists() else []
    shared = min(len(results), len(problems))
    if [result.id for result in results[:shared]] != [problem.id for problem in problems[:shared]]:
        results = []
    if len(results) < len(problems):
        results += make(problems[len(results) :])
        data = json.dumps([asdict(result) for result in results]).encode()
        write_file(path, gzip.compress(data, mtime=0))
    return results[: len(problems)]


def line(name: str, reference: Sequence[Result], results: Sequence[Result]) -> str:
    """One row of the table; overall accuracy is with a cloud that is always right."""
    n = len(results)
    called, right = sum(r.called for r in results), sum(r.right for r in results)
    same = sum(a.called == b.called for a, b in zip(reference, results, strict=True))
    texts = sum(a.text == b.text for a, b in zip(reference, results, strict=True))
    overall = [(a.called or a.right, b.called or b.right) for a, b in zip(reference, results, strict=True)]
    gained, lost = overall.count((False, True)), overall.count((True, False))
    alone = [(a.right, b.right) for a, b in zip(reference, results, strict=True)]
    low, high = wilson_interval(same, n)
    spread = [paired_interval(p.count((False, True)), p.count((True, False)), n) for p in (alone, overall)]
    changes = [f"{100 * a:+.1f} to {100 * b:+.1f}" for a, b in spread]
    return (
        f"| {name} | {called / n:.1%} | {right / n:.1%} ({changes[0]}) | {right / max(1, n - called):.1%} "
        f"| {sum(b for _, b in overall) / n:.1%} ({changes[1]}) | {gained}, {lost} | {same / n:.1%} "
        f"({low:.1%} to {high:.1%}) | {texts / n:.1%} | {sum(r.before for r in results) / n:.0f} |"
    )


HEAD = (
    "| policy | calls | solved alone (change, points, 95 %) | right of those kept | overall (change, points, 95 %) "
    "| gained, lost | same decision (95 %) | same text | tokens before the decision |\n" + "| --- " * 9 + "|\n"
)


def rounded(folder: Path, name: str, task: str) -> Policy:
    """The policy in ``folder`` rounded by the recipe called ``name``, as its target runs it."""
    recipe = find_recipe(name, None).quantize
    return quantize_policy(load_policy(folder), recipe, calibration_prompts(recipe, task))


def main() -> None:
    """Read the command line and run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, help="a policy folder")
    parser.add_argument("--task", default="countdown-reasoning")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipes", nargs="*", default=["onnx_int8", "onnx_int4", "onnx_int4_decisions"])
    parser.add_argument("--grid", nargs="*", default=[], metavar="NAME=POLICY[@RECIPE]")
    parser.add_argument("--out", type=Path, default=Path("docs/results/reasoning"))
    options = parser.parse_args()
    task = get_task(options.task)
    problems = task.problems("test", options.n, seed=options.seed)
    opened: dict[str, Callable[[], Policy]] = {REFERENCE: partial(load_policy, options.policy)}
    opened |= {name: partial(rounded, options.policy, name, options.task) for name in options.recipes}
    for name, given in (pair.split("=", 1) for pair in options.grid):
        folder, _, recipe = given.partition("@")
        opened[name] = partial(load_policy, Path(folder))
        if recipe:
            opened[name] = partial(rounded, Path(folder), recipe, options.task)
    command, lines = shlex.join(["python", *sys.argv]), []
    reference: list[Result] = []
    for name, open_policy in opened.items():
        path = options.out / f"{name}.json.gz"
        results = kept(path, problems, lambda missing, open_policy=open_policy: decode(open_policy(), missing, task))
        reference = reference or results
        lines.append(line(name, reference, results))
        print(lines[-1], flush=True)
        note = f"`{command}`\n\n{len(problems)} held-out problems of {options.task}, greedy.\n\n"
        write_file(options.out / "study.md", "# Reasoning under rounding\n\n" + note + HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
