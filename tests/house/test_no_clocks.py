"""No test may depend on how fast the machine is: what hangs is ended by the suite's own limit, and named."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CLOCKS = {"monotonic", "perf_counter", "time", "process_time"}


def upper_limits(source: str) -> Iterator[int]:
    """Lines that assert some clock's difference to lie below something."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            for compare in (each for each in ast.walk(node.test) if isinstance(each, ast.Compare)):
                sides = [compare.left, *compare.comparators]
                for left, operator, right in zip(sides, compare.ops, compare.comparators, strict=False):
                    below = left if isinstance(operator, ast.Lt | ast.LtE) else right
                    if isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE) and _is_duration(below):
                        yield node.lineno


def _is_duration(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and _reads_clock(node.left)


def _reads_clock(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("assert time.monotonic() - begin < 5", True),
        ("assert 0.5 < time.monotonic() - begin < 5", True),
        ("assert 5 >= time.perf_counter() - begin", True),
        ("assert time.monotonic() - begin > 0.5", False),
        ("assert a - b < 5", False),
    ],
)
def test_upper_limits_are_found(line: str, found: bool) -> None:
    assert bool(list(upper_limits(line))) == found


def test_no_test_has_one() -> None:
    texts = {path: path.read_text() for path in TESTS.rglob("*.py")}
    timed = {path: text for path, text in texts.items() if any(f"{clock}()" in text for clock in CLOCKS)}
    assert {f"{path.relative_to(TESTS)}:{line}" for path, text in timed.items() for line in upper_limits(text)} == set()
