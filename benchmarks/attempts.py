"""What a policy that reasons writes: how many attempts, how many hold a false sum, and why what it kept was wrong.

    python benchmarks/attempts.py docs/results/reasoning/gapg/fp32.json.gz ...

Reads what reasoning_study.py keeps. An attempt is a line of steps like ``9+8=17,17+6=23 no``.
"""

from __future__ import annotations

import gzip
import json
import sys
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


def why_wrong(attempts: list[str]) -> str:
    """Where an answer that was kept and is wrong comes from."""
    right = [attempt for attempt in attempts if attempt.endswith(" yes")]
    if not right:
        return "no yes"
    return "yes on a false sum" if holds_false_sum(right[-1]) else "a true line, another answer"


def main(files: list[Path]) -> None:
    """One line for each of ``files``."""
    for file in files:
        results: list[dict[str, Any]] = json.loads(gzip.decompress(file.read_bytes()))
        texts = [[line for line in each["text"].split("\n") if line.endswith((" yes", " no"))] for each in results]
        attempts = [attempt for text in texts for attempt in text]
        false = sum(map(holds_false_sum, attempts)) / len(attempts)
        again = sum(len(text) - len(set(text)) for text in texts) / len(attempts)
        first = sum(bool(text) and holds_false_sum(text[0]) for text in texts) / len(texts)
        targets = [each["id"].partition("->")[2].strip() for each in results]
        misjudged = sum(is_misjudged(a, target) for text, target in zip(texts, targets, strict=True) for a in text)
        wrong = [why_wrong(t) for t, each in zip(texts, results, strict=True) if not (each["called"] or each["right"])]
        print(
            f"{file.name}: {len(attempts) / len(results):.2f} attempts a problem, {false:.1%} with a false sum, "
            f"{first:.1%} of the problems' first, {misjudged / len(attempts):.2%} misjudged, {again:.1%} again; "
            f"wrong of those kept: {dict(Counter(wrong).most_common())}"
        )


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
