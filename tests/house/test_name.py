"""The distribution's name: ``edgekit`` on the package index is another project's, and nobody may be sent there."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STRANGER = re.compile(r"(?:pip|uv|poetry|pipx)\s+(?:pip\s+)?(?:install|add|run)\b[^|\n]*['\"`=\s]edgekit(?![-_\w])")
"""An installation of the name itself, or of one of its extras."""
READ = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".sh", ".kt", ".kts", ".swift", ".json", ""}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and Path(name).suffix in READ]


@pytest.mark.parametrize(
    ("line", "is_stranger"),
    [
        ("pip install edgekit", True),
        ("pip install 'edgekit[onnx]'", True),
        ("pip install --upgrade edgekit==2", True),
        ("uv add edgekit", True),
        ("uv pip install edgekit[all]", True),
        ("pip install '.[onnx]'", False),
        ("pip install edgekit-llm", False),
        ("pip install -e .  # then edgekit doctor", False),
    ],
)
def test_the_pattern_knows_who_is_sent_to_a_stranger(line: str, is_stranger: bool) -> None:
    assert bool(STRANGER.search(line.split("#")[0])) == is_stranger


def test_no_file_tells_anyone_to_install_another_project_s_edgekit() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone: git lists no files")
    found = []
    for path in tracked():
        if path == Path(__file__) or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {line.strip()}" for line in text.splitlines() if STRANGER.search(line)]
    assert not found


@pytest.mark.slow
def test_a_wheel_carries_the_recipes_and_names_them_where_no_clone_is(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith("edgekit_llm-")
    names = zipfile.ZipFile(wheel).namelist()
    for recipe in (ROOT / "export_recipes").glob("*.yaml"):
        assert f"edgekit/export_recipes/{recipe.name}" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "out/"))]
    # An empty environment that sees this one's packages, but neither this clone nor its edgekit.
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "--quiet", "install", "--no-deps", str(wheel)], check=True)
    site = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    (site / "beside.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    code = (
        "import edgekit, sys; from edgekit.recipes.lookup import find_recipe, named_recipes; "
        "assert edgekit.__file__.startswith(sys.prefix), edgekit.__file__; "
        "print(find_recipe(None, 'onnx').name, len(named_recipes()))"
    )
    told = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["onnx_int4_decisions", str(len(list((ROOT / "export_recipes").glob("*.yaml"))))]
