"""Arithmetic text to an exact value: a small iterative parser of + - * / and parentheses (no eval).

The grammar is strict so that a grade cannot be argued with: ASCII digits, binary operators,
parentheses, spaces. No unary sign, no ``=``, no words around it, and a length limit.
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_CHARACTERS = 256
MAX_DIGITS = 6
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
_TOKEN = re.compile(r"[0-9]+|[-+*/()]")
_ALLOWED = re.compile(r"[-+*/() 0-9]+")


def apply(operator: str, left: Fraction, right: Fraction) -> Fraction | None:
    """``left operator right``, exactly; None for a division by zero."""
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    return left / right if right else None


def expression_value(text: str) -> tuple[Fraction, list[int]] | None:
    """The value of ``text`` and the integers in it, in order; None if it is not an expression with a value."""
    if len(text) > MAX_CHARACTERS or not _ALLOWED.fullmatch(text):
        return None
    tokens = _TOKEN.findall(text)
    values: list[Fraction] = []
    operators: list[str] = []
    numbers: list[int] = []
    operand_next = True
    for token in tokens:
        if token.isdigit():
            if not operand_next or len(token) > MAX_DIGITS:
                return None
            numbers.append(int(token))
            values.append(Fraction(numbers[-1]))
            operand_next = False
        elif token == "(":
            if not operand_next:
                return None
            operators.append(token)
        elif operand_next:
            return None
        elif token == ")":
            if not _reduce(values, operators, 0) or not operators:
                return None
            operators.pop()
        else:
            if not _reduce(values, operators, _PRECEDENCE[token]):
                return None
            operators.append(token)
            operand_next = True
    if operand_next or not _reduce(values, operators, 0) or operators:
        return None
    return values[0], numbers


def _reduce(values: list[Fraction], operators: list[str], precedence: int) -> bool:
    """Apply the waiting operators that bind at least as tightly; False on a division by zero."""
    while operators and operators[-1] != "(" and _PRECEDENCE[operators[-1]] >= precedence:
        right, left = values.pop(), values.pop()
        value = apply(operators.pop(), left, right)
        if value is None:
            return False
        values.append(value)
    return True
