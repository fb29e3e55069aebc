"""Hashes that fit what a test has put into a bundle."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.bundle.manifest import MANIFEST, describe_files


def hash_again(folder: Path) -> None:
    """List the bundle's files in its manifest as they are now."""
    data = json.loads((folder / MANIFEST).read_text())
    data["files"] = {name: entry.model_dump() for name, entry in describe_files(folder).items()}
    (folder / MANIFEST).write_text(json.dumps(data))
