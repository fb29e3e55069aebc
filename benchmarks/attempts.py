"""What a policy that reasons writes: how many attempts, how many are faulty and how, and why what it kept was wrong.

    python benchmarks/attempts.py docs/results/reasoning/gapg/fp32.json.gz ...

Reads what reasoning_study.py keeps. An attempt is a line of steps like ``9+8=17,17+6=23 no``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from edgekit.tasks.expression import expression_value


def holds_false_sum(attempt: str) -> bool:
    """Whether a step of ``attempt`` says what is not so."""
    for step in attempt.rpartition(" ")[0].split(","):
        left, _, right = step.partition("=")
        made, said = (expression_value(f"0{side}" if side.startswith("-") else side) for side in (left, right))
        if made is None or said is None or made[0] != said[0]:
            return True
    return False


def is_misjudged(attempt: str, target: str) -> bool:
    """Whether ``attempt`` says of its last result wrongly that it is the ``target``, or is not."""
    steps, _, verdict = attempt.rpartition(" ")
    return (steps.rpartition("=")[2] == target) != (verdict == "yes")


def why_wrong(attempts: list[str], problem: str) -> str:
    """Where an answer that was kept and is wrong comes from; ``problem`` as ``6 9 8 -> 39``."""
    numbers, _, target = problem.partition("->")
    right = [attempt for attempt in attempts if attempt.endswith(" yes")]
    if not right:
        return "no yes"
    if holds_false_sum(right[-1]):
        return "yes on a false sum"
    if right[-1].rpartition(" ")[0].rpartition("=")[2] != target.strip():
        return "yes on another target"
    return "right line, another answer" if numbers_used(right[-1]) == Counter(numbers.split()) else "other numbers"


def numbers_used(attempt: str) -> Counter[str]:
    """The numbers that ``attempt`` takes, without those that it made itself."""
    used: Counter[str] = Counter()
    steps = attempt.rpartition(" ")[0].split(",")
    for step in steps:
        if operands := re.match(r"(-?\d+)[-+*/](-?\d+)=", step):
            used.update(operands.groups())
    used.subtract(step.rpartition("=")[2] for step in steps[:-1])
    return +used


def main(files: list[Path]) -> None:
    """One line for each of ``files``."""
    for file in files:
        results: list[dict[str, Any]] = json.loads(gzip.decompress(file.read_bytes()))
        texts = [[line for line in each["text"].split("\n") if line.endswith((" yes", " no"))] for each in results]
        attempts = [attempt for text in texts for attempt in text]
        false = sum(map(holds_false_sum, attempts)) / len(attempts)
        again = sum(len(text) - len(set(text)) for text in texts) / len(attempts)
        first = sum(bool(text) and holds_false_sum(text[0]) for text in texts) / len(texts)
        given = [each["id"].partition("->") for each in results]
        pairs = list(zip(texts, given, strict=True))
        misjudged = sum(is_misjudged(a, target.strip()) for text, (_, _, target) in pairs for a in text)
        strange = sum(bool(numbers_used(a) - Counter(numbers.split())) for text, (numbers, _, _) in pairs for a in text)
        wrong = [
            why_wrong(text, each["id"])
            for text, each in zip(texts, results, strict=True)
            if not (each["called"] or each["right"])
        ]
        print(
            f"{file.name}: {len(attempts) / len(results):.2f} attempts a problem, {false:.1%} with a false sum, "
            f"{first:.1%} of the problems' first, {misjudged / len(attempts):.2%} misjudged, {again:.1%} again, "
            f"{strange / len(attempts):.1%} with numbers not given; "
            f"wrong of those kept: {dict(Counter(wrong).most_common())}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="+", help="a NAME.json.gz of reasoning_study.py")
    main(parser.parse_args().file)
