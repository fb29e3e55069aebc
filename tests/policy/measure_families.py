"""Prints docs/models.md's table of families: what transformers computes with a tiny random model of each trait, and how
far edgekit's logits lie from that, as a share of the largest.

Usage: PYTHONPATH=. .venv/bin/python tests/policy/measure_families.py
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from family_cases import CASES, make_model

from edgekit.policy.checkpoint import load_model

LENGTHS = (5, 200)
NUMBERS = range(8)
"""Draws of tokens that each length is measured with."""


@torch.inference_mode()
def largest_difference(name: str, folder: Path, length: int) -> float:
    """Over some draws of ``length`` tokens, the largest difference of a logit as a share of the largest logit."""
    theirs, ours = make_model(name, folder), load_model(folder)
    shares = []
    for number in NUMBERS:
        tokens = torch.randint(0, 96, (2, length), generator=torch.Generator().manual_seed(number))
        expected = theirs(tokens).logits
        shares.append(float((ours(tokens) - expected).abs().max() / expected.abs().max()))
    return max(shares)


def main() -> None:
    """One row a family."""
    traits, largest = defaultdict(list), defaultdict(lambda: [0.0] * len(LENGTHS))
    for name in CASES:
        family, _, trait = name.partition(" ")
        traits[family].append(trait or "plain")
        with tempfile.TemporaryDirectory() as folder:
            for place, length in enumerate(LENGTHS):
                largest[family][place] = max(largest[family][place], largest_difference(name, Path(folder), length))
    print(f"| family | checked with | {' | '.join(f'{length} tokens' for length in LENGTHS)} |")
    print("| --- " * (2 + len(LENGTHS)) + "|")
    for family, checked in traits.items():
        print(f"| {family} | {', '.join(checked)} | {' | '.join(f'{share:.1e}' for share in largest[family])} |")


if __name__ == "__main__":
    main()
