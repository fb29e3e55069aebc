"""Where the policy of a run lies. No torch."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import BundleError


def policy_folder(source: Path) -> Path:
    """The policy folder of a run (its ``policy/``), or ``source`` itself if it is one.

    Raises :class:`BundleError` for anything else, saying what it is.
    """
    for folder in (source / "policy", source):
        if (folder / "routing.json").is_file() and (folder / "config.json").is_file():
            return folder
    if (source / "checkpoints").is_dir():
        raise BundleError(f"unfinished run: {source}. It has no policy yet. Run edgekit train --resume --out {source}.")
    if (source / "manifest.json").is_file():
        raise BundleError(f"not a run: {source}. It is a bundle. Give the run that it was exported from.")
    if source.is_file():
        raise BundleError(f"not a run or bundle: {source}. It is a file. Give a folder; unpack a packed bundle first.")
    raise BundleError(f"not a run or bundle: {source}. No policy/ and no manifest.json there. Check the path.")
