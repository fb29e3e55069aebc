"""constraints.txt pins all that make installs, so that a clone made later gets what was tested."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
EXTRAS = re.search(r'-e "\.\[([\w,]+)\]"', (ROOT / "Makefile").read_text())


def installed(name: str, extras: set[str], seen: dict[str, set[str]]) -> None:
    """Gather ``name`` and, of what is installed here, all that it needs."""
    known = seen.setdefault(canonicalize_name(name), set())
    fresh = {"", *extras} - known
    if not fresh:
        return
    known |= fresh
    for line in metadata.requires(name) or []:
        need = Requirement(line)
        if any(need.marker is None or need.marker.evaluate({"extra": extra}) for extra in fresh):
            try:
                metadata.version(need.name)
            except metadata.PackageNotFoundError:
                continue
            installed(need.name, set(need.extras), seen)


def test_everything_that_make_installs_is_pinned() -> None:
    assert EXTRAS is not None
    seen: dict[str, set[str]] = {}
    installed("edgekit-llm", set(EXTRAS[1].split(",")), seen)
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert all("==" in line for line in lines)
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines}
    assert set(seen) - pinned - {"edgekit-llm", "pip", "setuptools", "wheel"} == set()
