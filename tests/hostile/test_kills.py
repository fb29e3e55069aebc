"""Bundles replaced and placed, killed before each file-system event: the old one or the new one is there, whole."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile.counting import Count, Survives
from hostile.kill_at import run_until

from edgekit import atomic_write
from edgekit.atomic_write import link_or_copy, new_directory
from edgekit.bundle.load import open_bundle
from edgekit.bundle.manifest import MANIFEST
from edgekit.bundle.pack import replace_routing
from edgekit.folder_lock import PREFIX

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the names of open files from /proc"),
]
OLD, NEW = 0.0, 3.5


def calibrate(folder: Path) -> None:
    """What ``edgekit calibrate`` does to a bundle."""
    replace_routing(folder, open_bundle(folder).routing.model_copy(update={"marker_bias": NEW}))


def place(folder: Path) -> None:
    """What ``edgekit demo`` and ``edgekit export`` do: a whole new folder in the place of another."""
    with new_directory(folder, marker_file=MANIFEST, workspace=folder.parent) as new:
        for path in sorted((folder.parents[1] / "new").iterdir()):
            link_or_copy(path, new / path.name)


@pytest.mark.parametrize("way", ["exchange", "two steps"])
@pytest.mark.parametrize("work", [calibrate, place])
def test_a_bundle_is_the_old_one_or_the_new_one(
    work: Callable[[Path], None], way: str, tiny_bundle_folder: Path, tmp_path: Path, monkeypatch, survives: Survives
) -> None:
    if way == "two steps":
        monkeypatch.setattr(atomic_write, "exchange", lambda *_: False)
    for name, bias in (("old", OLD), ("new", NEW)):
        shutil.copytree(tiny_bundle_folder, tmp_path / name)
        replace_routing(tmp_path / name, open_bundle(tmp_path / name).routing.model_copy(update={"marker_bias": bias}))
    root = tmp_path / "out"

    def start() -> Path:
        shutil.rmtree(root, ignore_errors=True)
        return Path(shutil.copytree(tmp_path / "old", root / "bundle"))

    def child(folder: Path) -> Callable[[], int]:
        return lambda: work(folder) or 0

    whole = run_until(child(start()), root)
    assert whole.code == 0, (tmp_path / "output.txt").read_text()
    assert len(whole.events) > 5
    for last in range(1, len(whole.events) + 1):
        folder = start()
        assert run_until(child(folder), root, last).killed, whole.events[last - 1]
        assert open_bundle(folder).routing.marker_bias in (OLD, NEW), whole.events[last - 1]
        work(folder)
        assert open_bundle(folder).routing.marker_bias == NEW
        assert not [path.name for path in root.iterdir() if path.name.startswith(PREFIX)], whole.events[last - 1]
    survives.add(f"kill: {work.__name__}", Count(len(whole.events)))
