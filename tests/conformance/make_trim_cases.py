"""Writes trim_cases.json: prompts, and what every port makes of them before they are put into a template.

Usage: .venv/bin/python tests/conformance/make_trim_cases.py
"""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.routing.spec import TRIMS, WHITE_SPACE, trimmed

PROMPTS = (
    "", " ", "plain", " \n\t a  b \u3000\n ", "\r\n line \r\n", "\u200b not white \u200b", "\ufeff mark \ufeff",
    "e\u0301 \u0301", " \U0001f642 ", "\x00 zero \x00", f"{WHITE_SPACE}all of it{WHITE_SPACE}",
)  # fmt: skip


def cases() -> list[dict[str, str]]:
    """Every prompt trimmed in every way."""
    return [{"trim": trim, "prompt": prompt, "trimmed": trimmed(prompt, trim)} for trim in TRIMS for prompt in PROMPTS]


if __name__ == "__main__":
    lines = ",\n  ".join(json.dumps(case) for case in cases())
    Path(__file__).with_name("trim_cases.json").write_text(f'{{\n "cases": [\n  {lines}\n ]\n}}\n')
