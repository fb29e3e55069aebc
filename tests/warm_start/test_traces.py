"""The teacher's search traces: every line true, no attempt twice."""

from __future__ import annotations

import random
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.policy.checkpoint import Policy, load_policy
from edgekit.routing.decoder import Decision, RoutingDecoder
from edgekit.tasks.base import Problem
from edgekit.tasks.countdown import REASONING, solutions_by_value, split_of
from edgekit.tasks.expression import apply
from edgekit.warm_start.bases import builtin_base
from edgekit.warm_start.traces import TracesSettings, draw_problem, trace_batch, trace_example, write_trace

POLICY = load_policy(builtin_base())
LINE = re.compile(r"(?P<steps>\d+[-+*/]\d+=\d+(,\d+[-+*/]\d+=\d+)*) (?P<verdict>yes|no)")


def drawn(seed: int, **given: float) -> tuple[Problem, str]:
    source = random.Random(seed)
    problem = draw_problem(REASONING, source)
    return problem, write_trace(POLICY.routing, REASONING, problem, TracesSettings(**given), source)


def decided(policy: Policy, text: str) -> Decision:
    decoder = RoutingDecoder(policy.routing.model_copy(update={"max_new_tokens": 999}), policy.vocabulary)
    for token in policy.tokenizer.encode(text, add_special_tokens=False).ids:
        decoder.push(token)
    return decoder.finish()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 1.0]))
def test_every_line_is_true_and_no_attempt_comes_to_a_value_twice(seed: int, impatience: float) -> None:
    problem, text = drawn(seed, impatience=impatience)
    numbers, target = problem.data["numbers"], problem.data["target"]
    *lines, ending = text.split("\n")
    values = []
    for line in lines:
        match = LINE.fullmatch(line)
        assert match is not None, line
        pool = sorted(numbers)
        for step in match["steps"].split(","):
            left, operator, right, value = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step).groups()  # type: ignore[union-attr]
            operands = int(left), int(right)
            assert int(value) == apply(operator, *map(Fraction, operands))
            for operand in operands:
                pool.remove(operand)
            pool.append(int(value))
        assert len(pool) == 1
        assert (match["verdict"] == "yes") == (pool[0] == target)
        values.append(pool[0])
    assert len(set(values)) == len(values)
    assert target not in values[:-1]
    decision = decided(POLICY, text)
    assert decision.called == (ending == POLICY.routing.marker.text)
    if not decision.called:
        assert REASONING.grade(problem, decision.answer) == (values[-1] == target)


@pytest.mark.parametrize("spent", [0.0, 1.0])
def test_the_share_of_spent_traces_says_how_they_end(spent: float) -> None:
    found = set()
    for seed in range(20):
        problem, text = drawn(seed, spent=spent, marker_after_spent=1.0)
        if len(solutions_by_value(problem.data["numbers"])) > 7:  # with fewer the attempts are never spent
            found.add(decided(POLICY, text).called)
    assert found == {bool(spent)}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_an_impatient_teacher_calls_halfway_where_a_patient_one_goes_on(seed: int) -> None:
    problem, text = drawn(seed, impatience=1.0)
    _, patient = drawn(seed)
    half = 7 // 2 if len(problem.data["numbers"]) == 3 else 5 // 2
    *lines, ending = text.split("\n")
    if patient.count("no\n") < half:
        assert text == patient
    else:
        assert patient.startswith("\n".join([*lines, ""]))
        assert (len(lines), ending) == (half, POLICY.routing.marker.text)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_attempts_come_in_one_order_and_are_the_nearest_there_are(seed: int) -> None:
    problem, text = drawn(seed, spent=1.0)
    ways = list(solutions_by_value(problem.data["numbers"]))
    values = [int(line.partition(" ")[0].rpartition("=")[2]) for line in text.split("\n")[:-1]]
    assert [ways.index(value) for value in values] == sorted(ways.index(value) for value in values)
    target = problem.data["target"]
    left = set(ways) - {*values, target}
    if text.endswith(POLICY.routing.marker.text) and left:
        assert max(abs(value - target) for value in values) <= min(abs(value - target) for value in left)


def test_a_batch_depends_on_its_step_alone_and_has_training_problems_only(tiny_policy_folder: Path) -> None:
    policy = load_policy(tiny_policy_folder)
    given = TracesSettings(batch_size=4)
    assert trace_batch(policy, REASONING, given, 0, 5) == trace_batch(policy, REASONING, given, 0, 5)
    assert trace_batch(policy, REASONING, given, 0, 5) != trace_batch(policy, REASONING, given, 0, 6)
    source = random.Random(0)
    for _ in range(50):
        problem = draw_problem(REASONING, source)
        assert split_of(problem.data["numbers"], problem.data["target"]) == "train"
        example = trace_example(policy, REASONING, problem, given, source)
        prompt = len(policy.encode(problem.prompt))
        assert not any(example.learned[:prompt])
        assert all(example.learned[prompt:])


@given(st.lists(st.integers(1, 12), min_size=2, max_size=4), st.integers(20, 99))
@settings(deadline=None, max_examples=40)
def test_each_value_has_one_way_that_uses_every_number_once(numbers: list[int], largest: int) -> None:
    for value, solution in solutions_by_value(numbers, largest).items():
        assert value == solution.value == solution.steps[-1].value
        assert len(solution.steps) == len(numbers) - 1
        assert all(0 <= step.value <= largest and step.left >= step.right for step in solution.steps)
        assert REASONING.grade(REASONING.problem(numbers, value), solution.expression)
