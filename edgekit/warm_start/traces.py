"""A warm start on search: attempts at a Countdown problem, their results and verdicts, then the answer or the marker.

A teacher writes the traces from a seed, of training problems only. An attempt is a line of steps that use every
number once, and "yes" or "no", as its last result is the target or not:

    7+5=12,12*3=36 no
    7*5=35,35-3=32 yes
    <answer>(7*5)-3</answer>

The attempts are those whose values come nearest to the target, in the order in which one tries them by hand: the
largest numbers first, * + - / in this order. An order is what keeps a policy from trying the same again: where the
teacher's near misses came in any order, what it taught repeated its likeliest attempt. In some traces the one that
succeeds is not among the attempts: they end in the marker, or now and then in the answer that came nearest, so that
reinforcement learning has both to compare. An impatient teacher often calls halfway: how long a search pays is not
the teacher's to know, and reinforcement finds it out where both ways are taught.
"""

from __future__ import annotations

import random

from pydantic import Field

from edgekit.policy.checkpoint import Policy
from edgekit.progress import Progress
from edgekit.quantize.grid import GridWeights
from edgekit.recipes.quant_recipe import QuantRecipe
from edgekit.routing.spec import RoutingSpec
from edgekit.settings import Settings
from edgekit.tasks.base import Problem
from edgekit.tasks.countdown import (
    Countdown,
    Solution,
    draw_count,
    draw_numbers,
    random_solution,
    solutions_by_value,
    split_of,
)
from edgekit.warm_start.supervised import Example, fit
from edgekit.warm_start.work import Work, checkpoints


class OnGrid(Settings):
    """How long, after the floats, a warm start goes on on a recipe's grid, where the run has one."""

    steps: int = Field(default=100, ge=1)
    """Steps on the grid."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """AdamW's in them, at its highest."""


class TracesSettings(Settings):
    """How long the warm start on traces is, and what its traces are like."""

    steps: int = Field(default=120, ge=1)
    """Steps on floats."""
    batch_size: int = Field(default=32, ge=1)
    """Traces in a step, none of which comes again."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """AdamW's, at its highest."""
    warm_up: int = Field(default=8, ge=1)
    """Steps in which the learning rate rises."""
    longest: int = Field(default=15, ge=3)
    """The most arithmetic steps in a trace: with 3 numbers that is 7 attempts, with 4 it is 5."""
    spent: float = Field(default=0.2, ge=0, le=1)
    """The share of traces whose attempts all fail."""
    marker_after_spent: float = Field(default=0.8, ge=0, le=1)
    """Of those, the share that ends in the marker, not in the answer that came nearest."""
    impatience: float = Field(default=0.0, ge=0, le=1)
    """Of the traces without success after half of their attempts, the share that ends there, in the marker."""
    on_grid: OnGrid = OnGrid()
    """How it goes on where the run is trained on a recipe's grid."""


def teach_traces(
    policy: Policy,
    task: Countdown,
    settings: TracesSettings,
    *,
    seed: int = 0,
    work: Work | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Teach ``policy``, in place, to search.

    The same arguments, device and thread count give the same weights, also where ``work`` lets it go on after it was
    killed. ``on_progress`` hears of the steps done.
    """
    batches = (trace_batch(policy, task, settings, seed, step) for step in range(settings.steps))
    kept = checkpoints(work, "traces")
    for done, loss in fit(
        policy.model, batches, settings.steps, settings.learning_rate, kept, warm_up_steps=settings.warm_up
    ):
        if on_progress is not None:
            on_progress(done, settings.steps, f"traces: loss {loss:.3f}")


def settle_traces(
    policy: Policy,
    task: Countdown,
    settings: TracesSettings,
    recipe: QuantRecipe,
    *,
    seed: int = 0,
    work: Work | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Go on teaching ``policy``, taught before, on ``recipe``'s grid, in place, on further traces.

    It ends as the floats behind the grid: rounded to nearest they are what was taught. Arguments and promises as for
    :func:`teach_traces`.
    """
    begin, steps, rate = settings.steps, settings.on_grid.steps, settings.on_grid.learning_rate
    batches = (trace_batch(policy, task, settings, seed, begin + step) for step in range(steps))
    grid = GridWeights(policy.model.requires_grad_(True), recipe)
    kept = checkpoints(work, "traces-on-grid")
    for done, loss in fit(policy.model, batches, steps, rate, kept, grid, warm_up_steps=settings.warm_up):
        if on_progress is not None:
            on_progress(done, steps, f"traces on the grid: loss {loss:.3f}")
    policy.model = grid.floats().requires_grad_(False)


def trace_batch(policy: Policy, task: Countdown, settings: TracesSettings, seed: int, step: int) -> list[Example]:
    """The traces of ``step`` (from 0), which depend on ``seed`` and ``step`` alone."""
    source = random.Random(f"traces/{seed}/{step}")
    problems = [draw_problem(task, source) for _ in range(settings.batch_size)]
    return [trace_example(policy, task, problem, settings, source) for problem in problems]


def draw_problem(task: Countdown, source: random.Random) -> Problem:
    """A problem of the training split, as often as the task asks for its kind."""
    while True:
        numbers = draw_numbers(draw_count(source, task.shares), source, task.largest_number)
        solution = random_solution(numbers, source, task.largest_value)
        if solution is not None and split_of(numbers, solution.value) == "train":
            return task.problem(numbers, solution.value)


def trace_example(
    policy: Policy, task: Countdown, problem: Problem, settings: TracesSettings, source: random.Random
) -> Example:
    """The prompt and a trace of ``problem`` as tokens; the trace is learned."""
    prompt = policy.encode(problem.prompt)
    trace = write_trace(policy.routing, task, problem, settings, source)
    ids = policy.tokenizer.encode(trace, add_special_tokens=False).ids
    return Example.of(prompt, ids)


def write_trace(
    routing: RoutingSpec, task: Countdown, problem: Problem, settings: TracesSettings, source: random.Random
) -> str:
    """The teacher's response to ``problem``: the attempts nearest to the target, up to the one that reaches it."""
    numbers, target = problem.data["numbers"], problem.data["target"]
    ways = solutions_by_value(numbers, task.largest_value)
    others = [value for value in ways if value != target]
    most = settings.longest // (len(numbers) - 1)
    spent = source.random() < settings.spent and len(others) >= most
    near = sorted(others, key=lambda value: abs(value - target))[: most if spent else most - 1]
    patient = settings.impatience == 0 or source.random() >= settings.impatience
    lines: list[str] = []
    for value, way in ways.items():
        if value == target and not spent:
            return "".join([*lines, f"{_attempt(way)} yes\n", _answer(routing, way)])
        if value in near:
            lines.append(f"{_attempt(way)} no\n")
            if not patient and len(lines) == most // 2:
                return "".join([*lines, routing.marker.text])
    if source.random() < settings.marker_after_spent:
        return "".join([*lines, routing.marker.text])
    return "".join([*lines, _answer(routing, ways[near[0]])])


def _attempt(solution: Solution) -> str:
    return ",".join(f"{step.left}{step.operator}{step.right}={step.value}" for step in solution.steps)


def _answer(routing: RoutingSpec, solution: Solution) -> str:
    return f"{routing.answer.open}{solution.expression.replace(' ', '')}{routing.answer.close}"
