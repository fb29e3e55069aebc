"""Putting a bundle into a phone app."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle.app import Placement, Platform, app_folder, place_bundle, push_bundle
from edgekit.errors import EdgekitError
from edgekit.workflows.source import AnyPath, open_bundle


@dataclass(frozen=True)
class Placed:
    """The app's project, how many files were checked, where the bundle is there, and on the phone if it was pushed."""

    project: Path
    files: int
    placement: Placement
    pushed: str | None


def place(platform: Platform, bundle: AnyPath, *, app: AnyPath | None = None, push: bool = False) -> Placed:
    """Put ``bundle`` into the phone app in the project ``app``, by default the one of this checkout.

    ``push`` copies it to the connected Android phone too, by adb. Raises :class:`EdgekitError` for a bundle that is not
    whole, or that the app's runtime does not read, before anything is written.
    """
    if push and platform == "ios":
        raise EdgekitError("no --device for ios: Xcode installs the app with its bundles. Leave --device out.")
    opened = open_bundle(bundle)
    project = app_folder(platform, None if app is None else Path(app))
    placement = place_bundle(platform, project, opened)
    pushed = push_bundle(project, opened) if push else None
    return Placed(project, len(opened.manifest.files), placement, pushed)
